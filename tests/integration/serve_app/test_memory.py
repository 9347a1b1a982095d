"""What the Serve side takes: in a gateway of its own, since the others have read large files."""

from __future__ import annotations

from pathlib import Path

from tests.integration.serve_app.conftest import POOLS, MockProcess
from tests.support.serve import gateway

ROUNDS = 6
BUDGET_MB = 2500
ASK = {"model": "isthmus", "messages": [{"role": "user", "content": "Which taint do they carry?"}]}


def test_the_whole_serve_side_stays_under_its_memory_budget(
    mock: MockProcess, tmp_path: Path
) -> None:
    with mock.running(), gateway(tmp_path, RAG_LLM_URL=mock.url) as started:
        with started.http() as http:
            for number in range(ROUNDS):
                files = {"file": (f"{number}.md", POOLS)}
                assert http.post("/v1/documents?wait=60", files=files).json()["status"] == "done"
                assert http.post("/v1/chat/completions", json=ASK).status_code == 200
        rss = {f"{p.name()} {p.pid}": p.memory_info().rss / 1e6 for p in started.tree()}
    assert sum(rss.values()) < BUDGET_MB, rss
