"""The two sides meet at one Service: changing the LLM does not change the CPU side."""

from __future__ import annotations

from typing import Any

import pytest

from llm_backend.settings import LlmSettings
from rag_graph.settings import RagSettings
from serve_app.settings import ServeSettings
from tests.support import chart

BACKENDS: dict[str, dict[str, Any]] = {
    "deepspeed": {},
    "vllm": {},
    "tgi": {},
    "mii": {"image": "example/mii:1"},
    "external": {"external": {"host": "elsewhere.example"}},
}


def cpu_side(backend: str) -> str:
    values = {"llm": {"backend": backend, "apiKeySecret": "key", **BACKENDS[backend]}}
    kept: list[str] = []
    for document in chart.text(values, "values-spot.yaml").split("\n---"):
        source = document.partition("\n")[0] + document.partition("\n")[2].partition("\n")[0]
        if not any(name in source for name in ("llm", "mpijob", "test", "networkpolicy-helpers")):
            kept.append(document)
    return "\n---".join(kept)


@pytest.mark.parametrize("backend", ["vllm", "tgi", "mii", "external"])
def test_the_cpu_side_does_not_change_by_a_character(backend: str) -> None:
    assert "kind: RayService" in cpu_side(backend)
    assert "networkpolicy-ray.yaml" in cpu_side(backend)
    assert cpu_side(backend) == cpu_side("deepspeed")


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_url_that_ray_calls_has_a_service(backend: str) -> None:
    values = {"llm": {"backend": backend, **BACKENDS[backend]}}
    manifests = chart.render(values, "values-spot.yaml")
    ray = chart.one(manifests, "RayService")["spec"]["rayClusterConfig"]["headGroupSpec"]
    url = chart.env_of(ray["template"]["spec"]["containers"][0])["RAG_LLM_URL"]
    assert url == "http://isthmus-llm.rag.svc:8001/v1"
    assert "isthmus-llm" in chart.objects(manifests, "Service")


def test_every_setting_that_the_chart_names_exists() -> None:
    """A misspelt variable would be read by nobody."""
    known = {f"RAG_{f}".upper() for f in RagSettings.model_fields}
    known |= {f"LLM_{f}".upper() for f in LlmSettings.model_fields}
    known |= {f"SERVE_{f}".upper() for f in ServeSettings.model_fields}
    named: set[str] = set()
    for case in chart.MATRIX:
        text = str(chart.rendered(case))
        named |= {
            w for w in text.replace("'", " ").split() if w.startswith(("RAG_", "LLM_", "SERVE_"))
        }
    assert {"LLM_TENSOR_PARALLEL", "LLM_TLS_CLIENT_NAMES", "RAG_LLM_TLS_KEY"} <= named
    assert named <= known


def test_the_settings_accept_what_the_chart_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = chart.objects(chart.rendered("spot"), "MPIJob")
    launcher = jobs["isthmus-llm-0"]["spec"]["mpiReplicaSpecs"]["Launcher"]
    for name, value in chart.env_of(launcher["template"]["spec"]["containers"][0]).items():
        if name.startswith("LLM_") and isinstance(value, str):
            monkeypatch.setenv(name, value)
    settings = LlmSettings()
    assert settings.model_id == "qwen2.5-7b-instruct"
    assert settings.device == "cuda"
