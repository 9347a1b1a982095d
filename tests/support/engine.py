"""Plays the front end to a real engine: mpirun, its ranks, and the two sockets they expect."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import zmq

from llm_backend.runtime import ipc

START_S = 240  # the first start on plain torch with two ranks compiles DeepSpeed's all-reduce
STEP_S = 60


class EngineClient:
    """Submits requests to rank 0 and collects what comes back."""

    def __init__(self, link: zmq.Socket[bytes], ready: ipc.Ready, launcher: int) -> None:
        self._link = link
        self._launcher = psutil.Process(launcher)
        self.ready = ready
        self.stats = ipc.Stats()
        self.cached: dict[str, int] = {}

    def generate(
        self, requests: Iterable[ipc.Submit], *, shuffled: int | None = None
    ) -> dict[str, list[int]]:
        """Send requests, in an order and at moments drawn from the seed `shuffled`.

        Returns:
            The tokens of each.
        """
        queue = list(requests)
        dice = random.Random(shuffled)
        if shuffled is not None:
            dice.shuffle(queue)
        answers: dict[str, list[int]] = {each.request_id: [] for each in queue}
        open_requests = set(answers)
        while open_requests:
            burst = len(queue) if shuffled is None else dice.choice([0, 0, 1, 4])
            if len(open_requests) == len(queue):
                burst = max(1, burst)
            for each in queue[:burst]:
                self.send(each)
            del queue[:burst]
            message = self.receive()
            assert isinstance(message, ipc.Outputs), message
            self.stats = message.stats
            for output in message.outputs:
                answers[output.request_id] += output.token_ids
                self.cached[output.request_id] = output.cached_tokens
                if output.finish_reason is not None:
                    open_requests.remove(output.request_id)
        return answers

    def libraries(self) -> list[set[str]]:
        """Return the names of the files that each rank has mapped."""
        children = self._launcher.children(recursive=True)
        ranks = [each for each in children if "llm_backend.runtime.worker" in each.cmdline()]
        return [{Path(file.path).name for file in rank.memory_maps()} for rank in ranks]

    def send(self, message: ipc.ToEngine) -> None:
        self._link.send(ipc.encode(message))

    def receive(self, seconds: float = STEP_S) -> ipc.ToFront:
        return _receive(self._link, seconds)


@contextmanager
def running_engine(model_dir: Path, ranks: int = 1, **settings: str) -> Iterator[EngineClient]:
    """Start an engine with `settings` (LLM_ names), one thread a rank; stop it at the end."""
    environment = {
        **os.environ,
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMP_NUM_THREADS": "1",
        "LLM_THREADS_PER_RANK": "1",
        **settings,
    }
    with tempfile.TemporaryDirectory(prefix="engine-") as directory, zmq.Context() as context:
        arguments = ipc.WorkerArguments(f"ipc://{directory}/engine", f"{directory}/life", model_dir)
        link = context.socket(zmq.DEALER)
        ipc.configure(link)
        link.bind(arguments.endpoint)
        with link, _lifeline(arguments.lifeline):
            process = subprocess.Popen(_command(ranks, arguments), env=environment)
            try:
                yield EngineClient(link, _ready(link), process.pid)
                link.send(ipc.encode(ipc.Shutdown()))
                assert process.wait(30) == 0
            finally:
                process.kill()
                process.wait()


def _command(ranks: int, arguments: ipc.WorkerArguments) -> list[str]:
    mpirun = str(Path(sys.executable).with_name("mpirun"))
    worker = [sys.executable, "-m", "llm_backend.runtime.worker", *arguments.argv()]
    return [mpirun, "--bind-to", "none", "-np", str(ranks), *worker]


def _ready(link: zmq.Socket[bytes]) -> ipc.Ready:
    while True:
        message = _receive(link, START_S)
        if isinstance(message, ipc.Ready):
            return message
        assert not isinstance(message, ipc.EngineFailed), message


def _receive(link: zmq.Socket[bytes], seconds: float) -> ipc.ToFront:
    if not link.poll(int(seconds * 1000)):
        raise TimeoutError(f"nothing from the engine within {seconds} s")
    return ipc.decode_to_front(link.recv())


@contextmanager
def _lifeline(path: str) -> Iterator[None]:
    """Hold the ranks' lifelines until the block ends."""
    lines: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def accept() -> None:
            while True:
                try:
                    line, _ = listener.accept()
                except OSError:
                    return
                lines.append(line)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for line in lines:
                line.close()
