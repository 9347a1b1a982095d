"""The application on a real Ray under continuous load, every status looked at.

One Ray for all: two gateway replicas over a mock LLM with a batch of eight.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from bench import gateway_overload as load
from bench.gateway_overload import QUESTION, add_document, clients_of, key_file
from contracts import sse, telemetry
from isthmus_client import Client
from tests.integration.serve_app.conftest import MockProcess
from tests.support import redis
from tests.support.cluster import Cluster, cluster
from tests.support.processes import free_port, wait_for

SEQUENCES = 8
GATEWAY = {
    "name": "Gateway",
    "num_replicas": 2,
    "max_ongoing_requests": 512,
    "graceful_shutdown_timeout_s": 30,
    "ray_actor_options": {"num_cpus": 0.25, "num_gpus": 0},
}


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockProcess]:
    """Eight answers of one second at a time."""
    mock = MockProcess(free_port(), tmp_path_factory.mktemp("mock"))
    with mock.running(max_num_seqs=SEQUENCES, tokens_per_s=60, answer_tokens=80):
        yield mock


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """A Redis for the replicas, or none where there is no redis-server."""
    if redis.PROGRAM is None:
        yield ""
        return
    with redis.server(redis.PROGRAM) as url:
        yield url


@pytest.fixture(scope="module")
def system(
    llm: MockProcess, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("cluster")
    with cluster(
        directory,
        [GATEWAY],
        RAG_LLM_URL=llm.url,
        SERVE_API_KEYS_FILE=str(key_file(directory)),
        SERVE_MAX_WAITING="8",
        SERVE_REDIS_URL=redis_url,
        RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S="0.5",
        RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S="0.5",
    ) as running:
        add_document(running)
        wait_for(lambda: len(running.replicas()) == 2, 60, "two gateway replicas run")
        yield running


@dataclass
class Stream:
    """One streamed question: `status` of its head, and whether it came to its end."""

    began: float
    status: int = 0
    complete: bool = False
    ended: float = field(default=float("inf"))

    @property
    def whole(self) -> bool:
        return self.status == 200 and self.complete


async def stream(client: httpx.AsyncClient, seen: list[Stream]) -> None:
    one = Stream(time.monotonic())
    seen.append(one)
    body = {
        "model": "isthmus",
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": True,
    }
    sent = {"authorization": "Bearer quiet"}
    try:
        async with client.stream(
            "POST", "/v1/chat/completions", json=body, headers=sent
        ) as response:
            one.status = response.status_code
            async for event in sse.decode(response.aiter_bytes()):
                one.complete = event.data == sse.DONE
    except httpx.HTTPError:
        one.complete = False
    one.ended = time.monotonic()


@asynccontextmanager
async def streaming(system: Cluster, clients: int) -> AsyncIterator[list[Stream]]:
    """Have `clients` ask, each again when it has its answer; at the end wait for the last."""
    seen: list[Stream] = []
    over = asyncio.Event()

    async def one(client: httpx.AsyncClient) -> None:
        while not over.is_set():
            await stream(client, seen)

    async with clients_of(system) as client, asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(one(client))
        yield seen
        over.set()


async def until(condition: object, seconds: float, what: str) -> None:
    await asyncio.to_thread(wait_for, condition, seconds, what, 0.2)  # type: ignore[arg-type]


async def test_a_killed_replica_takes_only_its_own_streams_with_it(system: Cluster) -> None:
    victim = system.replicas()[0]
    async with streaming(system, clients=6) as seen:
        # The first ones may all be at the replica that was there first.
        await until(lambda: sum(s.whole for s in seen) >= 12, 60, "streams come to their ends")
        victim.kill()
        killed_at = time.monotonic()
        await until(lambda: len(system.replicas()) == 2, 60, "a new replica runs")
        enough = len(seen) + 12
        await until(lambda: len(seen) >= enough, 60, "streams go on")
    broken = [s for s in seen if not s.whole]
    in_flight = [s for s in seen if s.began <= killed_at <= s.ended]
    assert all(s.began <= killed_at for s in broken), broken
    assert len(broken) < len(in_flight), "streams of the other replica went on"
    assert {s.status for s in seen} == {200}, "what had not begun was sent to the other replica"


class Counting(httpx.AsyncHTTPTransport):
    """Counts the answers that were taken up again."""

    resumed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.resumed += request.url.path.endswith("/events")
        return await super().handle_async_request(request)


@pytest.mark.skipif(
    redis.PROGRAM is None, reason="no redis-server; on Debian: apt-get install redis-server"
)
async def test_streams_of_a_killed_replica_are_taken_up_again(system: Cluster) -> None:
    victim, transport, begun = system.replicas()[0], Counting(), set[int]()

    async def one(client: Client, number: int) -> str:
        text = ""
        async for piece in client.stream(QUESTION):
            if isinstance(piece, str):
                text += piece
                begun.add(number)
            else:
                assert piece.text == text
        return text

    async with Client(system.url, "quiet", transport) as client:
        whole = await client.ask(QUESTION)
        assert whole.citations, "an abstention makes no stream that could break"
        asking = [asyncio.create_task(one(client, number)) for number in range(6)]
        await until(lambda: len(begun) == len(asking), 30, "all have begun")
        victim.kill()
        assert await asyncio.gather(*asking) == [whole.text] * len(asking)
    assert transport.resumed > 0, "none was at the killed replica"
    await until(lambda: len(system.replicas()) == 2, 60, "a new replica runs")


async def test_a_rolling_update_fails_no_request(system: Cluster) -> None:
    before = {process.pid for process in system.replicas()}
    async with streaming(system, clients=6) as seen:
        await until(lambda: sum(s.whole for s in seen) >= 6, 60, "streams come to their ends")
        system.config["applications"][0]["args"] = {"RAG_TOP_K": 1, "RAG_CONTEXT_TOKENS": 999}
        system.deploy()
        await until(
            lambda: (now := {p.pid for p in system.replicas()}) and not now & before,
            120,
            "every gateway replica is a new one",
        )
        enough = len(seen) + 12
        await until(lambda: len(seen) >= enough, 60, "streams go on")
    assert Counter((s.status, s.complete) for s in seen) == {(200, True): len(seen)}


async def test_a_flood_is_refused_at_once_and_a_quiet_tenant_is_served(system: Cluster) -> None:
    """Five times what the LLM can take: 8 answers of 1.3 s at a time, a queue of 8 a replica."""
    async with clients_of(system) as client:
        alone = await load.closed(client, "quiet", 1, 4)
        flooding = asyncio.create_task(load.flood(client, "flood", 30, 12, (80,)))
        await asyncio.sleep(2)
        quiet = await load.closed(client, "quiet", 1, 8)
        flooded = await flooding
        after = await load.ask(client, "quiet")
    refused = [o.seconds for o in flooded if o.status in (429, 503)]
    assert {o.status for o in [*alone, *quiet, after]} == {200}
    assert {o.status for o in flooded} <= {200, 429, 503}
    # First come, first served, most of the quiet tenant's would be refused, as the flood's are.
    assert len(refused) > len(flooded) / 2
    served = [o.seconds for o in flooded if o.status == 200]
    assert load.percentile(refused, 0.5) < load.percentile(served, 0.5) / 2, "refused at once"
    assert len(served) > len(alone), "eight at a time, not one"


async def test_a_tenant_sees_nothing_of_another(system: Cluster) -> None:
    """Conversations, answers, jobs, opinions; documents are seen by who may see the collection."""
    async with Client(system.url, "quiet") as quiet, clients_of(system) as http:
        await quiet.ask(QUESTION, thread_id="mine")
        by = {name: {"authorization": f"Bearer {name}"} for name in load.TENANTS}
        file = {"file": ("secret.md", b"# Secret\n\nNothing that others know.\n")}
        job = (await http.post("/v1/documents", files=file, headers=by["quiet"])).json()["id"]
        resumable = {**by["quiet"], "x-isthmus-resumable": "true"}
        asked = {"messages": [{"role": "user", "content": QUESTION}], "stream": True}
        async with http.stream(
            "POST", "/v1/chat/completions", json={"model": "isthmus", **asked}, headers=resumable
        ) as response:
            events = [event async for event in sse.decode(response.aiter_bytes())]
        said = {"answer_id": (events[0].id or "").rpartition(".")[0], "rating": "up"}
        assert (await http.post("/v1/feedback", json=said, headers=by["quiet"])).status_code == 204
        for path, sent in (
            ("/v1/threads/mine", {}),
            (f"/v1/jobs/{job}", {}),
            (f"/v1/jobs/{job}/events", {}),
            ("/v1/chat/completions/events", {"last-event-id": events[0].id or ""}),
        ):
            statuses = [
                (await http.get(path, headers={**by[name], **sent})).status_code
                for name in load.TENANTS
            ]
            assert statuses == [200, 404], path
        threads = (await http.get("/v1/threads", headers=by["flood"])).json()
        assert threads["threads"] == []
        metrics = (await http.get("/metrics", headers=by["flood"])).text
        assert 'tenant="quiet"' not in metrics
        gone = f"/v1/chat/completions/{said['answer_id']}"
        assert (await http.delete(gone, headers=by["flood"])).status_code == 404


async def test_no_replica_is_added_while_the_llm_is_full(system: Cluster, llm: MockProcess) -> None:
    (gateway,) = system.config["applications"][0]["deployments"]
    del gateway["num_replicas"]
    kwargs = {"llm_url": llm.url, "look_every_s": 0.5}
    gateway["autoscaling_config"] = {
        "min_replicas": 1,
        "max_replicas": 3,
        "initial_replicas": 1,
        "target_ongoing_requests": 2,
        "upscale_delay_s": 3,
        "downscale_delay_s": 1,
        "look_back_period_s": 10.5,
        "policy": {
            "policy_function": "serve_app.autoscaling:LLMAware",
            "policy_kwargs": kwargs,
        },
    }
    system.deploy()
    await until(lambda: len(system.replicas()) == 1, 60, "one gateway replica is left")
    async with clients_of(system) as client:
        await load.closed(client, "flood", SEQUENCES + 6, 12)
        assert len(system.replicas()) == 1, "Serve's own policy would have three by now"
        await load.closed(client, "flood", SEQUENCES - 2, 1)
        free = asyncio.create_task(load.closed(client, "flood", SEQUENCES - 2, 40))
        try:
            await until(lambda: len(system.replicas()) > 1, 30, "replicas are added")
        finally:
            free.cancel()
            await asyncio.wait({free})


async def test_the_figures_are_there(system: Cluster) -> None:
    with system.http() as http:
        shown = http.get("/metrics").text
    assert f"{telemetry.GATEWAY_ADMISSION_LIMIT} " in shown
