"""A typed, asynchronous client of the gateway.

async with Client("http://127.0.0.1:8000") as client:
    answer = await client.ask("Which taint do the GPU node pools carry?")
    print(answer.text, answer.citations)
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Literal, Self

import httpx

from contracts import headers, sse
from contracts.errors import Code
from contracts.openai import ChatMessage, Usage
from isthmus_client.errors import IsthmusError, RefusedError, UnreachableError
from isthmus_client.models import Answer, Citation, Document, Job, Passage, Thread
from isthmus_client.patience import Patience, lost
from isthmus_client.wire import Http

ATTEMPTS = 6
"""Connections for one answer: it is taken up again where one broke off."""
WATCH_ATTEMPTS = 10
"""Connections for a job that does not go on: they last for 40 s of a gateway that is away."""
FIRST_PAUSE_S = 0.2


class Client:
    """One gateway. Use it as an asynchronous context manager, or close it."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        api_key: str = "",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Make a client; nothing is connected yet.

        Args:
            url: of the gateway, without "/v1".
            api_key: sent as a bearer token; empty for none.
            transport: in place of the network.
        """
        self._http = Http(url, api_key, transport)
        self._model = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ask(self, question: str, **wanted: Any) -> Answer:
        """Return the answer to a question; arguments as `stream` takes them."""
        async with aclosing(self.stream(question, **wanted)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Answer):
                    return piece
        raise UnreachableError("The answer ended in the middle. Ask again.")

    async def stream(
        self,
        question: str,
        *,
        collection: str = "default",
        top_k: int | None = None,
        thread_id: str | None = None,
        retrieval: Literal["auto", "always", "never"] = "auto",
        history: tuple[ChatMessage, ...] = (),
        model: str = "",
        max_tokens: int | None = None,
    ) -> AsyncGenerator[str | Answer, None]:
        """Yield the pieces of the answer's text, and at the end the whole `Answer`.

        A connection that breaks off is made again, and the answer taken up where it was; closing
        the generator stops the work on it.

        Raises:
            RefusedError: the gateway answered with an error, perhaps in the middle.
            UnreachableError: it cannot be reached, or not again, or the answer has no end.
        """
        turns = [turn.model_dump() for turn in history]
        body = {
            "model": model or await self.model(),
            "messages": [*turns, {"role": "user", "content": question}],
            "collection": collection,
            "retrieval": retrieval,
            "stream": True,
            "stream_options": {"include_usage": True},
            "top_k": top_k,
            "thread_id": thread_id,
            "max_tokens": max_tokens,
        }
        heard = _Heard()
        try:
            async with aclosing(
                self._chunks({k: v for k, v in body.items() if v is not None})
            ) as chunks:
                async for chunk in chunks:
                    for piece in heard.take(chunk):
                        yield piece
            yield heard.answer()
        except (GeneratorExit, asyncio.CancelledError):
            if heard.id and not heard.ended:
                await self._stop(heard.id)
            raise

    async def _chunks(self, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the stream's chunks, over as many connections as it takes."""
        asked = {"json": body, "headers": {headers.RESUMABLE: "true"}}
        call: tuple[str, str, dict[str, Any]] = ("POST", "/v1/chat/completions", asked)
        patience = Patience(ATTEMPTS - 1, FIRST_PAUSE_S)
        last = ""
        while True:
            try:
                async with aclosing(self._http.events(call[0], call[1], **call[2])) as events:
                    async for event in events:
                        last = event.id or last
                        if event.data == sse.DONE:
                            return
                        yield _chunk(event.data)
                raise UnreachableError("The answer ended in the middle. Ask again.")
            except IsthmusError as error:
                if not (last and lost(error)):
                    raise
                await patience.wait(error)
            resumed = {"headers": {headers.LAST_EVENT_ID: last}}
            call = ("GET", "/v1/chat/completions/events", resumed)

    async def _stop(self, answer_id: str) -> None:
        try:
            await self._http.json("DELETE", f"/v1/chat/completions/{answer_id}")
        except RefusedError as error:
            if error.code != Code.NOT_FOUND:  # then it has ended by itself
                raise

    async def model(self) -> str:
        """Return the id of the first model, the retrieval-augmented one."""
        self._model = self._model or (await self.models())[0]
        return self._model

    async def models(self) -> list[str]:
        """Return the ids of the models that may be asked."""
        return [str(one["id"]) for one in (await self._http.json("GET", "/v1/models"))["data"]]

    async def search(
        self, query: str, *, collection: str = "default", top_k: int | None = None
    ) -> list[Passage]:
        """Return the passages that match, best first."""
        body = {"query": query, "collection": collection, "top_k": top_k}
        found = await self._http.json("POST", "/v1/search", json=body)
        return [Passage.model_validate(one) for one in found["passages"]]

    async def collections(self) -> list[str]:
        """Return the names of the collections that may be searched."""
        found = await self._http.json("GET", "/v1/collections")
        return [str(one["name"]) for one in found["collections"]]

    async def upload(self, name: str, content: bytes, collection: str = "default") -> Job:
        """Upload a document and return the job that takes it in; `watch` follows it."""
        sent = {"data": {"collection": collection}, "files": {"file": (name, content)}}
        return Job.model_validate(await self._http.json("POST", "/v1/documents", **sent))

    async def watch(self, job_id: str) -> AsyncGenerator[Job, None]:
        """Yield a job as it goes on, until it has ended, also over a restart of the ingestor.

        Raises:
            RefusedError: there is no such job, or the gateway goes on refusing.
            UnreachableError: it cannot be reached, or not again.
        """
        before: Job | None = None
        patience = Patience(WATCH_ATTEMPTS - 1, FIRST_PAUSE_S)
        while True:
            try:
                async with aclosing(self._news(job_id)) as news:
                    async for job in news:
                        if job != before:  # it goes on
                            before, patience = job, Patience(WATCH_ATTEMPTS - 1, FIRST_PAUSE_S)
                        yield job
                        if job.ended:
                            return
                raise UnreachableError("The job's progress broke off. Watch it again.")
            except IsthmusError as error:
                if not (lost(error) or _starting(error)):
                    raise
                await patience.wait(error)

    async def _news(self, job_id: str) -> AsyncGenerator[Job, None]:
        """Yield a job as one connection tells of it."""
        async with aclosing(self._http.events("GET", f"/v1/jobs/{job_id}/events")) as events:
            async for event in events:
                yield Job.model_validate(_chunk(event.data))

    async def documents(self, collection: str = "default") -> AsyncGenerator[Document, None]:
        """Yield the documents of a collection, by name."""
        after, more = "", True
        while more:
            query = {"collection": collection, "after": after}
            page = await self._http.json("GET", "/v1/documents", params=query)
            for one in page["documents"]:
                document = Document.model_validate(one)
                yield document
                after = document.name
            more = page["has_more"]

    async def delete_document(self, document_id: str, collection: str = "default") -> None:
        """Delete a document."""
        query = {"collection": collection}
        await self._http.json("DELETE", f"/v1/documents/{document_id}", params=query)

    async def threads(self) -> list[Thread]:
        """Return the remembered conversations, the latest first."""
        found = await self._http.json("GET", "/v1/threads")
        return [Thread.model_validate(one) for one in found["threads"]]

    async def delete_thread(self, thread_id: str) -> None:
        """Forget a conversation."""
        await self._http.json("DELETE", f"/v1/threads/{thread_id}")

    async def rate(self, answer_id: str, rating: Literal["up", "down"], comment: str = "") -> None:
        """Say what somebody thought of an answer."""
        said = {"answer_id": answer_id, "rating": rating, "comment": comment or None}
        await self._http.json("POST", "/v1/feedback", json=said)


class _Heard:
    """What was received of one answer."""

    def __init__(self) -> None:
        self.id = ""
        self.ended = False
        self._text: list[str] = []
        self._citations: list[Mapping[str, Any]] = []
        self._info: dict[str, Any] = {}
        self._usage: Mapping[str, Any] | None = None

    def take(self, chunk: Mapping[str, Any]) -> list[str]:
        """Take a chunk in; return the pieces of text in it."""
        self.id = chunk["id"]
        self._citations = chunk.get("citations", self._citations)
        self._info = {**self._info, **chunk.get("isthmus", {})}
        self._usage = chunk.get("usage", self._usage)
        choices = chunk["choices"]
        self.ended = self.ended or any(choice.get("finish_reason") for choice in choices)
        pieces = [choice["delta"].get("content") for choice in choices]
        found = [piece for piece in pieces if piece]
        self._text += found
        return found

    def answer(self) -> Answer:
        """Return the whole answer."""
        return Answer(
            id=self.id,
            text="".join(self._text),
            citations=tuple(Citation.model_validate(one) for one in self._citations),
            info=self._info,
            usage=Usage.model_validate(self._usage) if self._usage else None,
        )


def _starting(error: IsthmusError) -> bool:
    """Whether a job's stream ended because the ingestor restarts: the job goes on after that."""
    return isinstance(error, RefusedError) and error.code == Code.NOT_READY


def _chunk(data: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(data)
    if found.get("error") and "status" not in found:
        raise RefusedError(found["error"]["message"], found["error"]["code"])
    return found
