"""The LLM service as a process, over real ranks or over `tests.support.fake_worker`."""

from __future__ import annotations

import sys

from llm_backend import inference_server

FAKE_WORKER = (sys.executable, "-m", "tests.support.fake_worker")

if __name__ == "__main__":
    sys.exit(inference_server.main(worker=FAKE_WORKER))
