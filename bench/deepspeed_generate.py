"""A baseline for the LLM benchmark: `deepspeed.init_inference` and `generate` behind a lock.

    python -m bench.deepspeed_generate MODEL_DIR PORT

One request at a time, streamed through transformers' own streamer; greedy, end of sequence
ignored when the request says so. It is a benchmark's opponent, not a server to use.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import deepspeed
import torch
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.generation.streamers import TextIteratorStreamer

from contracts import sse
from contracts.openai import Usage
from contracts.streaming import ChatFrames


class Baseline:
    """The model, its tokenizer, and the lock that makes requests wait for each other."""

    def __init__(self, model_dir: str) -> None:
        single = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_SIZE": "1"}
        os.environ.update(single, MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
        self._tokenizer: Any = AutoTokenizer.from_pretrained(model_dir)
        model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.bfloat16)
        self._engine: Any = deepspeed.init_inference(
            model, tensor_parallel={"tp_size": 1}, dtype=torch.bfloat16
        )
        self._lock = asyncio.Lock()

    async def models(self, _: Request) -> Response:
        return JSONResponse({"data": [{"id": "baseline", "object": "model"}]})

    async def chat(self, request: Request) -> Response:
        return StreamingResponse(self._frames(await request.json()), media_type=sse.MEDIA_TYPE)

    async def _frames(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        inputs = self._tokenizer.apply_chat_template(
            body["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self._engine.module.device)
        frames = ChatFrames("baseline", int(time.time()), "baseline")
        async with self._lock:
            streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, timeout=120)
            length = {"max_new_tokens": body["max_tokens"], "min_new_tokens": body["max_tokens"]}
            arguments = {**inputs, **length, "do_sample": False, "streamer": streamer}
            thread = threading.Thread(target=self._generate, kwargs=arguments)
            thread.start()
            while (text := await asyncio.to_thread(next, iter(streamer), None)) is not None:
                yield frames.content(text)
            thread.join()
        yield frames.finish("length")
        yield frames.usage(Usage.of(inputs["input_ids"].shape[1], body["max_tokens"]))
        yield sse.DONE_FRAME

    def _generate(self, **arguments: Any) -> None:
        with torch.inference_mode():
            self._engine.module.generate(**arguments)


def main() -> None:
    """Serve until interrupted."""
    model_dir, port = sys.argv[1:]
    baseline = Baseline(model_dir)
    routes = [
        Route("/v1/models", baseline.models),
        Route("/v1/chat/completions", baseline.chat, methods=["POST"]),
    ]
    uvicorn.run(Starlette(routes=routes), port=int(port), log_level="warning")


if __name__ == "__main__":
    main()
