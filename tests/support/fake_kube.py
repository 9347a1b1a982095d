"""A Kubernetes API server for tests: real HTTP, and the real rules for the kinds that we use.

Server-side apply, merge patch, replace under optimistic concurrency, delete, list, watch and logs;
every request is noted, and faults can be queued.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Object = dict[str, Any]

KINDS = {
    "rayservices": ("ray.io/v1", "RayService"),
    "rayclusters": ("ray.io/v1", "RayCluster"),
    "mpijobs": ("kubeflow.org/v2beta1", "MPIJob"),
    "jobs": ("batch/v1", "Job"),
    "pods": ("v1", "Pod"),
}
_REASONS = {403: "Forbidden", 404: "NotFound", 409: "Conflict", 422: "Invalid"}


@dataclass
class FakeKube:
    """What the server holds and has seen."""

    url: str = ""
    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    logs: dict[str, list[str]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, list[str]]]] = field(default_factory=list)
    faults: list[tuple[int, str]] = field(default_factory=list)
    answering: threading.Event = field(default_factory=threading.Event)
    script: dict[str, list[Object]] = field(default_factory=dict)
    interfere: list[Object] = field(default_factory=list)
    version: int = 100

    def put(self, manifest: Object) -> Object:
        """Store an object as if somebody else had."""
        plural = next(p for p, (_, kind) in KINDS.items() if kind == manifest["kind"])
        self.version += 1
        stored = copy.deepcopy(manifest)
        stored["metadata"]["resourceVersion"] = str(self.version)
        stored["metadata"].setdefault("namespace", "rag")
        self.objects[plural, stored["metadata"]["name"]] = stored
        return stored


class _RefusalError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kube: FakeKube

    def do_GET(self) -> None:
        self._answer(self._read)

    def do_PATCH(self) -> None:
        self._answer(self._patch)

    def do_PUT(self) -> None:
        self._answer(self._replace)

    def do_DELETE(self) -> None:
        self._answer(self._delete)

    def _answer(self, act: Any) -> None:
        split = urlsplit(self.path)
        query = parse_qs(split.query)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.kube.requests.append((self.command, split.path, query))
        self.kube.answering.wait()
        if self.kube.faults:
            self._status(_RefusalError(*self.kube.faults.pop(0)))
            return
        try:
            act(split.path.strip("/").split("/"), query, body)
        except _RefusalError as refusal:
            self._status(refusal)

    def _status(self, refusal: _RefusalError) -> None:
        self._send(
            refusal.code,
            {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "message": str(refusal),
                "reason": _REASONS.get(refusal.code, ""),
                "code": refusal.code,
            },
        )

    def _send(self, code: int, content: Any, kind: str = "application/json") -> None:
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _read(self, parts: list[str], query: dict[str, list[str]], _: bytes) -> None:
        if parts[-1] == "log":
            lines = self.kube.logs[parts[-2]][-int(query["tailLines"][0]) :]
            self._send(200, "\n".join(lines), "text/plain")
        elif parts[-1] in KINDS:
            self._watch(parts[-1]) if "watch" in query else self._list(parts[-1], query)
        else:
            self._send(200, self._found(parts))

    def _found(self, parts: list[str]) -> Object:
        plural, name = parts[-2:]
        steps = self.kube.script.get(name)
        if steps:  # an object that comes alive a step at every look
            self.kube.objects[plural, name]["status"] = steps.pop(0)
        try:
            return self.kube.objects[plural, name]
        except KeyError:
            raise _RefusalError(404, f'{plural} "{name}" not found') from None

    def _list(self, plural: str, query: dict[str, list[str]]) -> None:
        wanted = dict(p.split("=") for p in query.get("labelSelector", [""])[0].split(",") if p)
        items = [
            o
            for (p, _), o in sorted(self.kube.objects.items())
            if p == plural and wanted.items() <= o["metadata"].get("labels", {}).items()
        ]
        version, kind = KINDS[plural]
        self._send(
            200, {"apiVersion": version, "kind": f"{kind}List", "metadata": {}, "items": items}
        )

    def _watch(self, plural: str) -> None:
        found = [o for (p, _), o in self.kube.objects.items() if p == plural]
        events = [{"type": "MODIFIED", "object": o} for o in found]
        events += [{"type": "DELETED", "object": o} for o in found]
        self._send(200, "\n".join(json.dumps(e) for e in events))

    def _patch(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> None:
        plural, name = parts[-2:]
        change = json.loads(body)
        current = self.kube.objects.get((plural, name))
        if "apply-patch" in self.headers["Content-Type"]:
            assert query["fieldManager"], "server-side apply needs a field manager"
            self._owned(current, query)
        elif current is None:
            raise _RefusalError(404, f'{plural} "{name}" not found')
        merged = _merge(current or {}, change)
        merged["metadata"].setdefault("annotations", {})
        self._store(merged, query)

    def _owned(self, current: Object | None, query: dict[str, list[str]]) -> None:
        owner = (current or {}).get("metadata", {}).get("labels", {}).get("owner")
        if owner and query.get("force") != ["true"]:
            raise _RefusalError(
                409, f'Apply failed with 1 conflict: conflict with "{owner}": .spec'
            )

    def _replace(self, parts: list[str], query: dict[str, list[str]], body: bytes) -> None:
        plural, name = parts[-2:]
        given = json.loads(body)
        if self.kube.interfere:  # somebody else is faster
            self.kube.put(self.kube.interfere.pop(0))
        current = self.kube.objects[plural, name]
        if given["metadata"].get("resourceVersion") != current["metadata"]["resourceVersion"]:
            raise _RefusalError(
                409,
                f'Operation cannot be fulfilled on {plural} "{name}": the object has been modified',
            )
        self._store(given, query)

    def _store(self, manifest: Object, query: dict[str, list[str]]) -> None:
        if manifest.get("spec") == {}:
            raise _RefusalError(422, f'{manifest["kind"]} "x" is invalid: spec: Required value')
        dry = query.get("dryRun") == ["All"]
        self._send(200, manifest if dry else self.kube.put(manifest))

    def _delete(self, parts: list[str], query: dict[str, list[str]], _: bytes) -> None:
        plural, name = parts[-2:]
        if (plural, name) not in self.kube.objects:
            raise _RefusalError(404, f'{plural} "{name}" not found')
        if query.get("dryRun") != ["All"]:
            del self.kube.objects[plural, name]
        self._send(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


def _merge(current: Any, change: Any) -> Any:
    if not isinstance(change, dict) or not isinstance(current, dict):
        return change
    merged = {k: v for k, v in current.items() if change.get(k, v) is not None}
    return merged | {k: _merge(current.get(k), v) for k, v in change.items() if v is not None}


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is part of some tests; every other error shows in the answer."""


@contextmanager
def serving() -> Iterator[FakeKube]:
    """Run the server on a free port of this host."""
    kube = FakeKube()
    kube.answering.set()
    handler = type("Handler", (_Handler,), {"kube": kube})
    server = _Server(("127.0.0.1", 0), handler)
    kube.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield kube
    finally:
        kube.answering.set()
        server.shutdown()
        server.server_close()
        thread.join()


def kubeconfig(path: Path, url: str) -> Path:
    """Write a kubeconfig that points at a server."""
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "contexts": [
                    {"name": "test", "context": {"cluster": "c", "user": "u", "namespace": "rag"}}
                ],
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )
    )
    return path
