"""The pipeline of `bench.gateway peers` as a FastAPI application over a LangChain LCEL chain.

    RAG_LLM_URL=… RAG_STORE_URI=… uvicorn bench.peer_lcel:app

Retriever, prompt and answer's form are Isthmus's; everything between them is LangChain's, written
as its documentation does: `prompt | model`, `ainvoke` and `astream`.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from rag_graph.prompts import HEAD
from rag_graph.retrieval.retriever import Retriever
from rag_graph.settings import RagSettings
from rag_graph.state import SearchQuery


def chain_of(retriever: Retriever, settings: RagSettings) -> Runnable[str, str]:
    """Return the chain from a question to its answer."""

    async def passages(question: str) -> str:
        found = await retriever.search(SearchQuery(question))
        return "\n\n".join(
            f'<passage id="{n}" title="{p.title}">{p.text}</passage>'
            for n, p in enumerate(found, 1)
        )

    prompt = ChatPromptTemplate([("system", HEAD + "\n\n{passages}"), ("human", "{question}")])
    model = ChatOpenAI(
        model="mock",
        base_url=f"{settings.llm_url.removesuffix('/v1')}/v1",
        api_key=SecretStr("none"),
        max_completion_tokens=settings.max_tokens,
    )
    inputs = {"passages": RunnableLambda(passages), "question": RunnablePassthrough()}
    return inputs | prompt | model | StrOutputParser()


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings = RagSettings()
    app.state.chain = chain_of(await Retriever.open(settings), settings)
    yield


app = FastAPI(lifespan=_lifespan)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer at once."""
    return {"status": "ok"}


@app.post("/v1/chat/completions")
async def chat(request: Request) -> Response:
    """Answer the last message."""
    body: dict[str, Any] = await request.json()
    chain: Runnable[str, str] = request.app.state.chain
    question = body["messages"][-1]["content"]
    if body.get("stream"):
        return StreamingResponse(_frames(chain, question), media_type="text/event-stream")
    message = {"role": "assistant", "content": await chain.ainvoke(question)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return JSONResponse({"object": "chat.completion", "created": _now(), "choices": [choice]})


async def _frames(chain: Runnable[str, str], question: str) -> AsyncIterator[str]:
    async for piece in chain.astream(question):
        yield _frame({"content": piece}, None)
    yield _frame({}, "stop")
    yield "data: [DONE]\n\n"


def _frame(delta: dict[str, str], reason: str | None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    chunk = {"object": "chat.completion.chunk", "created": _now(), "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n"


def _now() -> int:
    return int(time.time())
