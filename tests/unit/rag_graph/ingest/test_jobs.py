"""Jobs over a real LanceDB directory: safe before they are told of, done once, taken over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rag_graph.errors import (
    BusyError,
    CollectionExistsError,
    CollectionNotFoundError,
    InvalidQueryError,
    NotFoundError,
)
from rag_graph.ingest.job import Job
from rag_graph.ingest.jobs import Jobs
from rag_graph.ingest.pipeline import Ingestor, document_key
from rag_graph.retrieval.embedder import Embedders
from rag_graph.retrieval.retriever import Retriever
from rag_graph.retrieval.store import Store
from rag_graph.retrieval.vectors import Vectors
from rag_graph.settings import RagSettings
from rag_graph.state import SearchQuery
from tests.support.rag import FakeEmbedder, pdf

WAIT_S = 60.0


class SlowEmbedder(FakeEmbedder):
    """Embeds once it is let; `reached` is set when it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()
        self.let.set()
        self.reached = asyncio.Event()

    async def embed(self, texts: object) -> Vectors:
        self.reached.set()
        await self.let.wait()
        return await super().embed(texts)  # type: ignore[arg-type]


class House:
    """A store, and processes that come and go; each `Jobs` is one."""

    def __init__(self, folder: Path) -> None:
        self.settings = RagSettings(
            store_uri=str(folder), cache_dir=folder, max_waiting_jobs=20, ingest_documents=8
        )
        self.embedder, self.other = SlowEmbedder(), FakeEmbedder()
        self.other.name = "other"
        self.embedders = Embedders([self.embedder, self.other])
        self._opened: list[Jobs] = []

    async def jobs(self) -> Jobs:
        jobs = Jobs(await Store.open(self.settings), self.embedders, self.settings)
        await jobs.start()
        self._opened.append(jobs)
        return jobs

    async def leave(self, jobs: Jobs) -> None:
        self._opened.remove(jobs)
        await jobs.aclose()

    async def aclose(self) -> None:
        self.embedder.let.set()
        while self._opened:
            await self.leave(self._opened[-1])

    async def texts(self, collection: str = "default") -> list[str]:
        embedders = Embedders([FakeEmbedder(), self.other])
        retriever = Retriever(await Store.open(self.settings), embedders, self.settings)
        found = await retriever.search(SearchQuery("text", collection, top_k=100))
        return sorted(passage.text for passage in found)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    yield house
    await house.aclose()


async def done(jobs: Jobs, job: Job) -> Job:
    ended = await jobs.ended(job.tenant, job.id, WAIT_S)
    assert ended.ended, ended
    return ended


async def held(house: House, jobs: Jobs, name: str = "a.md") -> Job:
    """Return a job that is stuck while it embeds."""
    house.embedder.let.clear()
    house.embedder.reached.clear()
    job = await jobs.submit("acme", name, b"held text", "default")
    await house.embedder.reached.wait()
    return jobs.one("acme", job.id)


async def test_a_document_goes_through_its_stages(house: House) -> None:
    jobs = await house.jobs()
    job = await held(house, jobs)
    assert (job.status, job.chunks_done, job.chunks_total) == ("embedding", 0, 1)
    house.embedder.let.set()
    ended = await done(jobs, job)
    assert (ended.status, ended.result, ended.document_id) == (
        "done",
        "created",
        document_key("a.md"),
    )
    assert (ended.chunks_done, ended.chunks_total, ended.eta_s) == (1, 1, None)
    assert await house.texts() == ["held text"]


async def test_a_document_that_cannot_be_read_says_why(house: House) -> None:
    jobs = await house.jobs()
    ended = await done(jobs, await jobs.submit("acme", "a.pdf", pdf("x")[:100], "default"))
    assert (ended.status, ended.error_code) == ("failed", "unreadable_document")
    assert "a.pdf cannot be read as PDF" in (ended.error or "")
    assert ended.wire()["error"]["code"] == "unreadable_document"


async def test_an_unchanged_document_is_done_at_once(house: House) -> None:
    jobs = await house.jobs()
    await done(jobs, await jobs.submit("acme", "a.md", b"some text", "default"))
    again = await jobs.submit("acme", "a.md", b"some text", "default")
    assert (again.status, again.result, again.chunks_total) == ("done", "unchanged", 1)
    other = await done(jobs, await jobs.submit("acme", "a.md", b"other text", "default"))
    assert other.result == "replaced"


async def test_the_same_upload_once_more_is_the_same_job(house: House) -> None:
    jobs = await house.jobs()
    first = await held(house, jobs)
    again = await jobs.submit("acme", "a.md", b"held text", "default")
    strange = await jobs.submit("zeta", "a.md", b"held text", "default")
    assert again.id == first.id != strange.id
    house.embedder.let.set()
    assert (await done(jobs, strange)).result == "unchanged"


async def test_the_last_of_several_uploads_of_a_document_stays(house: House) -> None:
    jobs = await house.jobs()
    sent = [await jobs.submit("acme", "a.md", b"text %d" % i, "default") for i in range(5)]
    assert {(await done(jobs, job)).status for job in sent} == {"done"}
    assert await house.texts() == ["text 4"]


@pytest.mark.parametrize("name", ["a.md", "waiting.md"])
async def test_a_cancelled_job_changes_nothing(house: House, name: str) -> None:
    jobs = await house.jobs()
    first = await held(house, jobs)
    waiting = await jobs.submit("acme", "a.md", b"waiting text", "default")
    chosen = first if name == "a.md" else waiting
    assert (await jobs.cancel("acme", chosen.id)).status == "cancelled"
    house.embedder.let.set()
    rest = waiting if name == "a.md" else first
    await done(jobs, rest)
    assert len(await house.texts()) == 1
    assert jobs.one("acme", chosen.id).status == "cancelled"
    assert (await jobs.cancel("acme", rest.id)).status == "done"


async def test_a_job_cancelled_before_its_first_step_holds_nothing(house: House) -> None:
    jobs = await house.jobs()
    for _ in range(house.settings.ingest_documents + 1):  # each would keep a place
        job = await jobs.submit("acme", "a.md", b"some text", "default")
        assert (await jobs.cancel("acme", job.id)).status == "cancelled"
    again = await jobs.submit("acme", "a.md", b"some text", "default")
    assert (await done(jobs, again)).result == "created"


async def test_a_job_that_closing_kept_from_its_first_step_is_done_later(house: House) -> None:
    jobs = await house.jobs()
    job = await jobs.submit("acme", "a.md", b"some text", "default")
    await house.leave(jobs)
    assert jobs.one("acme", job.id).status == "queued"
    assert (await done(await house.jobs(), job)).result == "created"


async def test_no_tenant_sees_anothers_job(house: House) -> None:
    jobs = await house.jobs()
    job = await jobs.submit("acme", "a.md", b"text", "default")
    for attempt in (jobs.one, jobs.cancel):
        with pytest.raises(NotFoundError, match="There is no job"):
            await asyncio.ensure_future(_called(attempt, job.id))
    assert jobs.of("zeta") == []
    assert [one.id for one in jobs.of("acme")] == [job.id]


async def _called(attempt: object, job_id: str) -> None:
    found = attempt("zeta", job_id)  # type: ignore[operator]
    if asyncio.iscoroutine(found):
        await found


async def test_tenants_take_turns(house: House) -> None:
    jobs = await house.jobs()
    await held(house, jobs)
    places = house.settings.ingest_documents
    flood = [await jobs.submit("acme", f"{i}.md", b"text", "default") for i in range(2 * places)]
    other = await jobs.submit("zeta", "z.md", b"text", "default")
    house.embedder.let.set()
    await done(jobs, other)
    assert not jobs.one("acme", flood[-1].id).ended
    await done(jobs, flood[-1])


async def test_too_many_jobs_of_a_tenant_are_refused(house: House) -> None:
    jobs = await house.jobs()
    await held(house, jobs)
    limit = house.settings.max_waiting_jobs + house.settings.ingest_documents - 1
    for i in range(limit):
        await jobs.submit("acme", f"{i}.md", b"text", "default")
    with pytest.raises(BusyError) as refused:
        await jobs.submit("acme", "more.md", b"text", "default")
    assert refused.value.retry_after
    assert (await jobs.submit("zeta", "z.md", b"text", "default")).status == "queued"


async def test_what_was_not_done_is_done_by_the_next_process(house: House) -> None:
    jobs = await house.jobs()
    first = await held(house, jobs)
    second = await jobs.submit("acme", "b.md", b"second text", "default")
    ended = await done(jobs, await jobs.submit("acme", "bad.md", b"", "default"))
    await house.leave(jobs)
    house.embedder.let.set()
    jobs = await house.jobs()
    for job in (first, second):
        assert (await done(jobs, job)).result == "created"
    assert jobs.one("acme", ended.id).error == ended.error
    assert await house.texts() == ["held text", "second text"]


async def test_a_document_does_not_go_back_when_news_of_it_were_lost(house: House) -> None:
    dying = await house.jobs()
    other = await held(house, dying, "other.md")  # the news of the others wait behind this one
    waiting = [await dying.submit("acme", "a.md", f"text {n}".encode(), "default") for n in "123"]
    await house.leave(dying)
    house.embedder.let.set()
    ingestor = Ingestor(await Store.open(house.settings), house.embedders, house.settings)
    await ingestor.ingest("a.md", b"text 2")  # what `dying` did just before it was killed
    await ingestor.aclose()
    heir = await house.jobs()
    ended = [await done(heir, job) for job in waiting]
    assert [job.result for job in ended] == ["unchanged", "unchanged", "replaced"]
    assert (await done(heir, other)).result == "created"
    assert await house.texts() == ["held text", "text 3"]


async def test_a_second_process_waits_for_the_first_to_go(house: House) -> None:
    first, second = await house.jobs(), await house.jobs()
    job = await second.submit("acme", "a.md", b"some text", "default")
    assert second.one("acme", job.id).status == "queued"
    await done(first, await first.submit("acme", "b.md", b"more text", "default"))
    await house.leave(first)
    assert (await done(second, job)).result == "created"
    assert await house.texts() == ["more text", "some text"]


async def test_news_come_as_they_happen(house: House) -> None:
    jobs = await house.jobs()
    job = await held(house, jobs)
    waiting = asyncio.create_task(jobs.news("acme", job.id, job.updated_at, WAIT_S))
    await asyncio.sleep(0)
    house.embedder.let.set()
    assert (await waiting).updated_at > job.updated_at
    assert await jobs.news("acme", job.id, 0.0, WAIT_S)


async def test_a_deleted_document_is_gone_and_what_was_coming_too(house: House) -> None:
    jobs = await house.jobs()
    await done(jobs, await jobs.submit("acme", "a.md", b"old text", "default"))
    await done(jobs, await jobs.submit("acme", "b.md", b"other text", "default"))
    coming = await held(house, jobs)
    await jobs.delete_document("default", document_key("a.md"))
    assert jobs.one("acme", coming.id).status == "cancelled"
    assert await house.texts() == ["other text"]
    with pytest.raises(NotFoundError, match="no document"):
        await jobs.delete_document("default", document_key("a.md"))
    house.embedder.let.set()
    assert (await done(jobs, await jobs.submit("acme", "a.md", b"old text", "default"))).result == (
        "created"
    )


async def test_collections_are_made_with_their_settings_and_deleted(house: House) -> None:
    jobs = await house.jobs()
    await jobs.create_collection("notes", "other", 40)
    with pytest.raises(CollectionExistsError):
        await jobs.create_collection("notes", None, 50)
    with pytest.raises(InvalidQueryError, match="at hand; there are: fake, other"):
        await jobs.create_collection("more", "absent", 50)
    with pytest.raises(InvalidQueryError, match="100 tokens at most"):
        await jobs.create_collection("more", None, 101)
    ended = await done(jobs, await jobs.submit("acme", "a.md", b"word " * 100, "notes"))
    assert ended.chunks_total == 3
    coming = await held(house, jobs, "default.md")
    await jobs.delete_collection("notes")
    assert jobs.one("acme", coming.id).status == "embedding"
    with pytest.raises(CollectionNotFoundError):
        await house.texts("notes")


async def test_a_collection_changes_its_embedder_and_goes_back(house: House) -> None:
    jobs = await house.jobs()
    await done(jobs, await jobs.submit("acme", "a.md", b"some text", "default"))
    with pytest.raises(InvalidQueryError, match="no other embedder to go back to"):
        await jobs.re_embed("acme", "default", "")
    job = await done(jobs, await jobs.re_embed("acme", "default", "other"))
    assert (job.status, job.kind, job.chunks_total) == ("done", "embedder", 1)
    await jobs.delete_document("default", document_key("a.md"))
    await done(jobs, await jobs.submit("acme", "b.md", b"newer text", "default"))
    store = await Store.open(house.settings)
    assert (await store.collection("default")).info.embedder == "other"
    back = await done(jobs, await jobs.re_embed("acme", "default", ""))
    assert (back.status, back.name) == ("done", "fake")
    assert (await store.collection("default")).info.embedder == "fake"
    assert await house.texts() == ["newer text"]
