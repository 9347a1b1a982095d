"""The Serve config files and the code say the same; Serve itself accepts misspelt keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from rag_graph.settings import RagSettings
from serve_app import app
from serve_app.configs.__main__ import main
from serve_app.configs.generate import unknown_keys
from serve_app.errors import SettingsError
from serve_app.settings import ServeSettings

FOLDER = Path(app.__file__).parent / "configs"
FILES = sorted(FOLDER.glob("*.yaml"))
DEPLOYMENTS = {"Gateway", "Retriever", "Ingestor"}


def load(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(path.read_text())
    return data


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_serve_takes_every_key(path: Path) -> None:
    data = load(path)
    ServeDeploySchema.model_validate(data)
    assert unknown_keys(data, ServeDeploySchema) == []
    (application,) = data["applications"]
    assert application["import_path"] == "serve_app.app:app"


def test_the_files_are_what_the_code_generates() -> None:
    assert main(["--check"]) == 0


def test_a_file_of_ones_own_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    data = load(FOLDER / "production.yaml")
    gateway, retriever, _ = data["applications"][0]["deployments"]
    gateway["autoscaling_config"]["max_replica"] = 3
    gateway["autoscaling_config"]["policy"]["function"] = "x"
    retriever["name"] = "Retreiver"
    path.write_text(yaml.safe_dump(data))
    assert main(["--check", str(path), str(tmp_path / "absent.yaml")]) == 1
    said = capsys.readouterr().err
    for part in ("autoscaling_config.max_replica", "policy.function", "'Retreiver'", "absent.yaml"):
        assert part in said


def test_a_misspelt_key_would_be_found() -> None:
    data = load(FOLDER / "production.yaml")
    data["applications"][0]["deployments"][0]["max_queued_request"] = 1
    assert unknown_keys(data, ServeDeploySchema) != []


def test_production_names_every_deployment_and_no_gpu() -> None:
    deployments = load(FOLDER / "production.yaml")["applications"][0]["deployments"]
    assert {d["name"] for d in deployments} == DEPLOYMENTS == set(app.CPU_SHARES)
    assert {d["ray_actor_options"]["num_gpus"] for d in deployments} == {0}
    assert all(d["max_queued_requests"] > 0 for d in deployments), "a queue without a bound"


def test_production_lets_an_answer_end() -> None:
    data = load(FOLDER / "production.yaml")
    answer_s = RagSettings.model_fields["timeout_s"].default
    gateway = data["applications"][0]["deployments"][0]
    assert gateway["graceful_shutdown_timeout_s"] > answer_s
    assert data["http_options"]["request_timeout_s"] > answer_s


def test_arguments_override_settings_by_their_names() -> None:
    assert app.build({"SERVE_MODEL_NAME": "docs", "RAG_TOP_K": "3"})


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"RAG_TOPK": 3}, "RAG_TOPK"),
        ({"RAG_TOP_K": "many"}, "RAG_TOP_K"),
        ({"x": 1}, "'x'"),
        ({"RAG_LLM_FALLBACK_URL": "http://x"}, "RAG_LLM_URL"),
    ],
)
def test_arguments_that_cannot_be_are_named(args: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        app.build(args)
    assert said in str(refused.value)


def test_the_code_asks_for_no_gpu_and_bounds_its_queues() -> None:
    settings = ServeSettings(max_queued_requests=7)
    for name in DEPLOYMENTS:
        deployment = app._deployment(object, name, settings)
        assert deployment.ray_actor_options is not None
        assert deployment.ray_actor_options["num_gpus"] == 0
        assert deployment.max_queued_requests == 7
