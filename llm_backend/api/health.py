"""`/readyz`: whether requests are served, and if not, why and for how long."""

from __future__ import annotations

import json
import time
from typing import Any

from starlette.responses import Response

from contracts import headers
from llm_backend.api.responses import json_response
from llm_backend.api.service import Service
from llm_backend.runtime.supervisor import State


def dump(content: Any) -> bytes:
    """Return `content` as JSON bytes."""
    return json.dumps(content).encode()


def readiness(service: Service) -> Response:
    """Return 200 when requests are served, else 503 with phase, percent, ETA and reason."""
    status, ready = service.supervisor.status, service.dispatcher.ready
    eta = status.eta_s(time.monotonic())
    body: dict[str, Any] = {
        "status": status.state.value,
        "model": service.settings.model_id,
        "restarts": status.restarts,
    }
    if status.state is State.STARTING:
        body |= {"phase": status.phase, "percent": round(status.percent, 1)}
        body |= {"eta_s": None if eta is None else round(eta, 1)}
    if status.reason:
        body["reason"] = status.reason
    if ready is not None:
        body |= {"max_model_len": ready.max_model_len, "model_hash": ready.model_hash}
    response = json_response(dump(body), 200 if status.state is State.READY else 503)
    if status.state is not State.READY:
        response.headers[headers.RETRY_AFTER] = str(max(1, round(eta or 1)))
    return response
