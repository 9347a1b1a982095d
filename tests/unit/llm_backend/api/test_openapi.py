from __future__ import annotations

import json
import re

from llm_backend.api.openapi import document
from llm_backend.api.types import ChatRequest


def test_names_the_model_served() -> None:
    chat = document("m")["components"]["schemas"]["ChatRequest"]
    assert chat["properties"]["model"] == {"const": "m"}
    assert chat["additionalProperties"] is False
    assert set(chat["properties"]) == set(ChatRequest.model_fields)


def test_every_reference_resolves() -> None:
    whole = document("m")
    names = re.findall(r"#/components/schemas/(\w+)", json.dumps(whole))
    assert set(names) <= set(whole["components"]["schemas"])
    assert "/v1/chat/completions" in whole["paths"]
