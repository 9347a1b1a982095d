"""The application on a Ray of its own, with its Serve config changed while it runs.

    python -m tests.support.cluster CONFIG.json

deploys the config, as `serve deploy` would, and again each time a line comes on standard input,
having read the file anew.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from serve_app import ingress
from serve_app.main import RAY_ENVIRONMENT
from serve_app.settings import ServeSettings
from tests.support.processes import free_port, running
from tests.support.serve import START_SECONDS, Gateway, environment

REPLICA = "ray::ServeReplica:isthmus:Gateway"


@dataclass(frozen=True)
class Cluster(Gateway):
    """One running application whose config can be changed."""

    config_path: Path
    config: dict[str, Any]

    def replicas(self) -> list[psutil.Process]:
        """Return the processes of the gateway's replicas."""
        return [p for p in self.tree() if p.is_running() and _title(p).startswith(REPLICA)]

    def deploy(self) -> None:
        """Have the changed `config` deployed, beginning now."""
        self.config_path.write_text(json.dumps(self.config))
        stdin = self.process.stdin
        assert stdin is not None
        stdin.write(b"\n")
        stdin.flush()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@contextmanager
def cluster(
    directory: Path, deployments: list[dict[str, Any]], **settings: str
) -> Iterator[Cluster]:
    """Run the application with `deployments`' options until the block ends."""
    port, log, path = free_port(), directory / "cluster.log", directory / "serve.json"
    config = {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": port},
        "applications": [
            {
                "name": "isthmus",
                "route_prefix": "/",
                "import_path": "serve_app.app:build",
                "args": {},
                "deployments": deployments,
            }
        ],
    }
    path.write_text(json.dumps(config))
    url = f"http://127.0.0.1:{port}"
    with running(
        ["-m", "tests.support.cluster", str(path)],
        ready_url=f"{url}/healthz",
        log=log,
        env=environment(directory, port, **settings),
        seconds=START_SECONDS,
        stdin=True,
    ) as process:
        yield Cluster(url, process, log, path, config)


def _read(into: queue.Queue[str]) -> None:
    for line in sys.stdin:
        into.put(line)


def main() -> None:
    """Deploy, and deploy again for each line."""
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with ingress.prepared(ServeSettings()):
        _serve()


def _serve() -> None:
    # After the ingress is chosen: Ray reads that when it is imported.
    from ray import serve
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    from serve_app import own_ray

    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    stop = threading.Event()  # a KeyboardInterrupt that comes within a finalizer is lost
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    with own_ray.running(ServeSettings()):
        config = json.loads(Path(sys.argv[1]).read_text())
        serve.start(proxy_location="HeadOnly", http_options=config["http_options"])
        client = _get_global_client()
        assert client is not None
        while not stop.is_set():
            config = json.loads(Path(sys.argv[1]).read_text())
            client.deploy_apps(ServeDeploySchema.model_validate(config))
            while lines.empty() and not stop.wait(0.1):
                pass
            if not lines.empty():
                lines.get()
        serve.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
