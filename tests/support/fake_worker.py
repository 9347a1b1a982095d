"""A rank without a model: speaks `runtime.ipc` and answers with the prompt's own tokens, repeated.

One token a step for every request, `FAKE_STEP_S` seconds apart; ends with `FAKE_EOS` after as
many tokens as the prompt has, unless told to ignore it. A prompt that begins with token 1, 2, 3
or 4 makes rank 0 stop stepping, exit with 0, die, or refuse, unless `FAKE_TRICKS` is 0. SIGUSR1
makes any rank exit with 0.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass

import zmq

from contracts.errors import Code
from llm_backend.runtime import ipc, lifeline

STEP_S = float(os.environ.get("FAKE_STEP_S", "0.002"))
START_S = float(os.environ.get("FAKE_START_S", "0"))
EOS = int(os.environ.get("FAKE_EOS", "0"))
TRICKS = os.environ.get("FAKE_TRICKS", "1") == "1"
FAIL = os.environ.get("FAKE_FAIL", "")
MAX_MODEL_LEN = 4096


@dataclass
class Request:
    submit: ipc.Submit
    sent: int = 0

    def step(self) -> ipc.Output:
        prompt, wanted = self.submit.prompt_ids, self.submit.sampling
        self.sent += 1
        over = self.sent > len(prompt) and not wanted.ignore_eos
        token = EOS if over else prompt[(self.sent - 1) % len(prompt)]
        reason = "stop" if over else "length" if self.sent >= self.submit.max_tokens else None
        logprobs = None
        if wanted.logprobs is not None:
            logprobs = [ipc.TokenLogprob(-0.5, [(token, -0.5)] * wanted.logprobs)]
        return ipc.Output(
            self.submit.request_id, [token], reason, 0, logprobs, stop_token=bool(over)
        )


class Rank:
    def __init__(self, arguments: ipc.WorkerArguments) -> None:
        self.index = int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
        self.steps = 0
        self.requests: dict[str, Request] = {}
        signal.signal(signal.SIGUSR1, lambda *_: os._exit(0))
        line = lifeline.connect(arguments.lifeline)
        lifeline.hold(line, self.index, lambda: self.steps)
        if self.index:
            time.sleep(10**6)
        self.socket = ipc.connect(zmq.Context.instance(), arguments.endpoint)

    def send(self, message: ipc.ToFront) -> None:
        self.socket.send(ipc.encode(message))

    def start(self) -> None:
        for percent in (10.0, 60.0):
            self.send(ipc.Loading("pretending to load", percent))
            time.sleep(START_S / 2)
        if FAIL:
            self.send(ipc.EngineFailed(FAIL, permanent=True))
            self.socket.close(linger=1000)
            sys.exit(1)
        self.send(ipc.Ready(MAX_MODEL_LEN, 100, 16, "fake", vocab_size=1000))

    def serve(self) -> None:
        while True:
            while self.socket.poll(0 if self.requests else None):
                message = ipc.decode_to_engine(self.socket.recv())
                if isinstance(message, ipc.Shutdown):
                    return
                self.take(message)
            time.sleep(STEP_S)
            self.steps += 1
            outputs = [request.step() for request in self.requests.values()]
            for output in outputs:
                if output.finish_reason:
                    del self.requests[output.request_id]
            stats = ipc.Stats(self.steps, len(self.requests), 0, 90, 100)
            self.send(ipc.Outputs(outputs, stats))

    def take(self, message: ipc.Submit | ipc.Cancel) -> None:
        if isinstance(message, ipc.Cancel):
            self.requests.pop(message.request_id, None)
            return
        match message.prompt_ids[0] if TRICKS else None:
            case 1:
                time.sleep(10**6)
            case 2:
                os._exit(0)
            case 3:
                os._exit(9)
            case 4:
                text = "The deadline passed."
                self.send(ipc.Rejected(message.request_id, Code.REQUEST_TIMEOUT, text))
            case _:
                self.requests[message.request_id] = Request(message)


if __name__ == "__main__":
    rank = Rank(ipc.WorkerArguments.parse(sys.argv[1:]))
    rank.start()
    rank.serve()
    # The others, which know no MPI, would wait: an exit code of its own has mpirun end the job.
    sys.exit(3)
