"""`isthmus cluster` as a person uses it, against an API server over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from cli.cluster import app
from kuberay.changes import PREVIOUS
from tests.support import chart, fake_kube, tools
from tests.support.fake_kube import FakeKube

READY = {"conditions": [{"type": "Ready", "status": "True"}], "numServeEndpoints": 3}
STARTING = {"conditions": [{"type": "Ready", "status": "False", "reason": "Initializing"}]}


@pytest.fixture
def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKube]:
    with fake_kube.serving() as server:
        path = fake_kube.kubeconfig(tmp_path / "config", server.url)
        monkeypatch.setenv("KUBECONFIG", str(path))
        yield server


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin)


def service(**spec: Any) -> dict[str, Any]:
    config = {
        "applications": [
            {"name": "isthmus", "deployments": [{"name": "Gateway", "autoscaling_config": {}}]}
        ]
    }
    groups = [{"groupName": "cpu", "minReplicas": 1, "maxReplicas": 4}]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "rag"},
        "spec": {
            "serveConfigV2": yaml.safe_dump(config),
            "rayClusterConfig": {"workerGroupSpecs": groups},
            **spec,
        },
    }


def job() -> dict[str, Any]:
    return {
        "apiVersion": "kubeflow.org/v2beta1",
        "kind": "MPIJob",
        "metadata": {"name": "llm"},
        "spec": {"runPolicy": {"suspend": False}, "slotsPerWorker": 1},
    }


def spec_of(kube: FakeKube, plural: str, name: str) -> Any:
    return kube.objects[plural, name]["spec"]


def test_apply_uses_server_side_apply_under_our_name(kube: FakeKube) -> None:
    result = run("apply", "-", stdin=yaml.safe_dump_all([service(), job()]))
    assert result.exit_code == 0, result.output
    assert "RayService rag applied" in result.output
    assert set(kube.objects) == {("rayservices", "rag"), ("mpijobs", "llm")}
    _, path, query = next(r for r in kube.requests if r[0] == "PATCH")
    assert path == "/apis/ray.io/v1/namespaces/rag/rayservices/rag"
    assert query["fieldManager"] == ["isthmus"]


def test_apply_refuses_other_kinds_before_it_changes_anything(kube: FakeKube) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    result = run("apply", "-", stdin=yaml.safe_dump_all([service(), secret]))
    assert result.exit_code == 1
    assert "Secret is not managed by" in result.output
    assert "install the rest with Helm" in result.output
    assert kube.objects == {}


def test_apply_with_pools_proves_first(kube: FakeKube, tmp_path: Path) -> None:
    manifests = [m for m in chart.rendered("spot") if m["kind"] in ("RayService", "MPIJob")]
    pools = chart.CHART / "values-spot.yaml"
    good = run("apply", "-", "--pools", str(pools), stdin=yaml.safe_dump_all(manifests))
    assert good.exit_code == 0, good.output
    untainted = tmp_path / "pools.yaml"
    untainted.write_text(pools.read_text().replace("sku=gpu:NoSchedule", "x=y:PreferNoSchedule"))
    kube.objects.clear()
    bad = run("apply", "-", "--pools", str(untainted), stdin=yaml.safe_dump_all(manifests))
    assert bad.exit_code == 1
    assert "taint layer is missing" in bad.output
    assert kube.objects == {}


@pytest.mark.parametrize(
    "arguments",
    [
        ("apply", "-"),
        ("scale", "rag", "--group", "cpu", "--max", "9"),
        ("suspend", "llm"),
        ("resume", "llm"),
        ("rollback", "rag"),
    ],
)
def test_a_dry_run_changes_nothing(kube: FakeKube, arguments: tuple[str, ...]) -> None:
    before = service(idle=1)
    before["metadata"]["annotations"] = {PREVIOUS: json.dumps({"idle": 2})}
    suspended = job()
    suspended["spec"]["runPolicy"]["suspend"] = arguments[0] == "resume"
    kube.put(before)
    kube.put(suspended)
    stored = json.dumps([*kube.objects.values()], sort_keys=True)
    result = run(*arguments, "--dry-run", stdin=yaml.safe_dump(service(idle=3)))
    assert result.exit_code == 0, result.output
    assert "dry run: nothing was changed" in result.output
    writes = [q for method, _, q in kube.requests if method in ("PATCH", "PUT")]
    assert writes
    assert all(q["dryRun"] == ["All"] for q in writes)
    assert json.dumps([*kube.objects.values()], sort_keys=True) == stored


def test_somebody_elses_fields_are_taken_over_only_by_force(kube: FakeKube) -> None:
    owned = service()
    owned["metadata"]["labels"] = {"owner": "helm"}
    kube.put(owned)
    refused = run("apply", "-", stdin=yaml.safe_dump(service(a=1)))
    assert refused.exit_code == 1
    assert 'conflict with "helm"' in refused.output
    assert "--force" in refused.output
    assert run("apply", "-", "--force", stdin=yaml.safe_dump(service(a=1))).exit_code == 0


def test_rollback_undoes_the_last_apply_and_redoes_it(kube: FakeKube) -> None:
    run("apply", "-", stdin=yaml.safe_dump(service(version=1)))
    run("apply", "-", stdin=yaml.safe_dump(service(version=2)))
    assert run("rollback", "rag").exit_code == 0
    assert spec_of(kube, "rayservices", "rag")["version"] == 1
    assert run("rollback", "rag").exit_code == 0
    assert spec_of(kube, "rayservices", "rag")["version"] == 2


def test_rollback_without_a_past_says_so(kube: FakeKube) -> None:
    kube.put(service())
    result = run("rollback", "rag")
    assert result.exit_code == 1
    assert "has no earlier spec" in result.output
    assert "helm rollback" in result.output


def test_scale_a_worker_group(kube: FakeKube) -> None:
    kube.put(service())
    assert run("scale", "rag", "--group", "cpu", "--min", "2", "--max", "9").exit_code == 0
    (group,) = spec_of(kube, "rayservices", "rag")["rayClusterConfig"]["workerGroupSpecs"]
    assert (group["minReplicas"], group["maxReplicas"]) == (2, 9)
    assert run("rollback", "rag").exit_code == 0
    (group,) = spec_of(kube, "rayservices", "rag")["rayClusterConfig"]["workerGroupSpecs"]
    assert (group["minReplicas"], group["maxReplicas"]) == (1, 4)


def test_scale_a_serve_deployment(kube: FakeKube) -> None:
    kube.put(service())
    result = run("scale", "rag", "--deployment", "Gateway", "--min", "2", "--max", "8")
    assert result.exit_code == 0, result.output
    config = yaml.safe_load(spec_of(kube, "rayservices", "rag")["serveConfigV2"])
    scaling = config["applications"][0]["deployments"][0]["autoscaling_config"]
    assert scaling == {"min_replicas": 2, "max_replicas": 8}


def test_scale_loses_nobodys_change(kube: FakeKube) -> None:
    """Somebody adds a group between our read and our write: both changes are there in the end."""
    kube.put(service())
    theirs = service()
    theirs["spec"]["rayClusterConfig"]["workerGroupSpecs"].append(
        {"groupName": "big", "minReplicas": 0, "maxReplicas": 1}
    )
    kube.interfere = [theirs]
    assert run("scale", "rag", "--group", "cpu", "--max", "7").exit_code == 0
    groups = spec_of(kube, "rayservices", "rag")["rayClusterConfig"]["workerGroupSpecs"]
    assert {g["groupName"]: g["maxReplicas"] for g in groups} == {"cpu": 7, "big": 1}


def test_scale_gives_up_when_somebody_always_wins(kube: FakeKube) -> None:
    kube.put(service())
    kube.interfere = [service(turn=i) for i in range(9)]
    result = run("scale", "rag", "--group", "cpu", "--max", "7")
    assert result.exit_code == 1
    assert "the object has been modified" in result.output
    assert sum(method == "PUT" for method, _, _ in kube.requests) == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("scale", "rag", "--group", "gpu", "--max", "2"), "has no 'gpu'; it has cpu"),
        (("scale", "rag", "--deployment", "Gate", "--max", "2"), "has no 'Gate'; it has Gateway"),
        (("scale", "rag", "--group", "cpu", "--min", "5"), "min 5 and max 4 cannot be"),
        (("scale", "rag", "--group", "cpu"), "--min, --max or both"),
        (("scale", "rag", "--max", "4"), "either --group or --deployment"),
        (("scale", "llm", "--group", "cpu", "--max", "4"), "llm.replicas, or use suspend"),
        (("suspend", "rag"), 'mpijobs "rag" not found'),
        (("status", "nobody"), "No RayService, MPIJob or RayCluster is named nobody"),
        (("logs", "llm"), "llm has no pods now"),
        (("status", "--watch"), "Say what to watch"),
    ],
)
def test_what_cannot_be_is_said(kube: FakeKube, arguments: tuple[str, ...], words: str) -> None:
    kube.put(service())
    kube.put(job())
    result = run(*arguments)
    assert result.exit_code == 1
    assert words in result.output


def test_suspend_and_resume(kube: FakeKube) -> None:
    kube.put(job())
    assert run("suspend", "llm").exit_code == 0
    assert spec_of(kube, "mpijobs", "llm")["runPolicy"]["suspend"] is True
    assert run("resume", "llm").exit_code == 0
    assert spec_of(kube, "mpijobs", "llm")["runPolicy"]["suspend"] is False
    assert spec_of(kube, "mpijobs", "llm")["slotsPerWorker"] == 1


def launcher_job() -> dict[str, Any]:
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "llm-launcher"}}


def test_resume_makes_the_launcher_anew(kube: FakeKube) -> None:
    """Its old Job would bring back what the spec said when it was made."""
    suspended = job()
    suspended["spec"]["runPolicy"]["suspend"] = True
    kube.put(suspended)
    kube.put(launcher_job())
    assert run("resume", "llm").exit_code == 0
    assert ("jobs", "llm-launcher") not in kube.objects
    query = next(q for method, _, q in kube.requests if method == "DELETE")
    assert query["propagationPolicy"] == ["Background"]


def test_resume_leaves_a_running_replica_alone(kube: FakeKube) -> None:
    kube.put(job())
    kube.put(launcher_job())
    assert run("resume", "llm").exit_code == 0
    assert ("jobs", "llm-launcher") in kube.objects


def test_restart_suspends_deletes_the_launcher_and_resumes(kube: FakeKube) -> None:
    kube.put(job())
    kube.put(launcher_job())
    result = run("restart", "llm")
    assert result.exit_code == 0, result.output
    assert "MPIJob llm restarted" in result.output
    writes = [(m, p.rsplit("/", 1)[1]) for m, p, _ in kube.requests if m in ("PUT", "DELETE")]
    assert writes == [("PUT", "llm"), ("DELETE", "llm-launcher"), ("PUT", "llm")]
    assert spec_of(kube, "mpijobs", "llm")["runPolicy"]["suspend"] is False


def test_restart_does_not_start_new_pods_beside_old_ones(kube: FakeKube) -> None:
    kube.put(job())
    kube.put(launcher_job())
    kube.put(pod_of_llm("llm-launcher", ready=True))
    result = run("restart", "llm", "--timeout", "0")
    assert result.exit_code == 1
    assert "still ending: llm-launcher" in result.output
    assert "isthmus cluster resume llm" in result.output
    assert spec_of(kube, "mpijobs", "llm")["runPolicy"]["suspend"] is True
    assert ("jobs", "llm-launcher") in kube.objects


def test_changes_to_an_mpi_job_say_how_they_reach_its_pods(kube: FakeKube) -> None:
    result = run("apply", "-", stdin=yaml.safe_dump(job()))
    assert "its pods change with `isthmus cluster restart llm`" in result.output


def pod_of_llm(name: str, *, ready: bool, phase: str = "Running") -> dict[str, Any]:
    condition = {"type": "Ready", "status": str(ready)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"training.kubeflow.org/job-name": "llm"}},
        "status": {"phase": phase, "conditions": [condition]},
    }


def test_wait_for_an_mpi_job_waits_for_its_model(kube: FakeKube) -> None:
    running = {"conditions": [{"type": "Running", "status": "True"}]}
    kube.put(job() | {"status": running | {"replicaStatuses": {"Launcher": {"active": 1}}}})
    kube.put(pod_of_llm("llm-launcher", ready=False))
    kube.put(pod_of_llm("llm-launcher-before", ready=False, phase="Failed"))
    result = run("wait", "llm", "--timeout", "0")
    assert result.exit_code == 1
    assert "running, 1 launcher, not ready: llm-launcher." in result.output
    kube.put(pod_of_llm("llm-launcher", ready=True))
    result = run("wait", "llm", "--timeout", "0")
    assert "MPIJob llm: ready, running, 1 launcher" in result.output


def test_status_lists_what_runs(kube: FakeKube) -> None:
    assert "Nothing runs in namespace rag" in run("status").output
    kube.put(service() | {"status": READY})
    running = {"conditions": [{"type": "Running", "status": "True"}]}
    kube.put(job() | {"status": running | {"replicaStatuses": {"Launcher": {"active": 1}}}})
    output = run("status").output
    assert "ready, 3 endpoints" in output
    assert "running, 1 launcher" in output


def test_status_watches_until_the_end(kube: FakeKube) -> None:
    kube.put(service() | {"status": READY})
    assert "ready, 3 endpoints" in run("status", "rag", "--watch").output


def test_wait_tells_every_change(kube: FakeKube) -> None:
    kube.put(service())
    kube.script["rag"] = [STARTING, STARTING, READY]
    result = run("wait", "rag", "--timeout", "30")
    assert result.exit_code == 0, result.output
    assert result.output.count("starting: Initializing") == 1
    assert "ready, 3 endpoints" in result.output


def test_wait_has_a_deadline(kube: FakeKube) -> None:
    kube.put(service() | {"status": STARTING})
    result = run("wait", "rag", "--timeout", "0")
    assert result.exit_code == 1
    assert "Not ready after 0 s: RayService rag: starting" in result.output


def test_logs_of_an_mpi_job(kube: FakeKube) -> None:
    kube.put(job())
    pod = pod_of_llm("llm-launcher", ready=True)
    kube.put(pod)
    kube.put({**pod, "metadata": {"name": "other", "labels": {}}})
    kube.logs["llm-launcher"] = ["one", "two", "three"]
    result = run("logs", "llm", "--tail", "2")
    assert result.output.splitlines() == ["llm-launcher: two", "llm-launcher: three"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "Log in again"),
        (403, "Ask for the role"),
        (409, "try again or take over with --force"),
        (422, "Correct the manifest"),
        (429, "Try again in a moment"),
        (500, "look at the cluster's health"),
    ],
)
def test_every_refusal_carries_the_servers_reason_and_a_mend(
    kube: FakeKube, status: int, words: str
) -> None:
    kube.put(service())
    kube.faults = [(status, "because the server says so.")]
    result = run("apply", "-", stdin=yaml.safe_dump(service()))
    assert result.exit_code == 1
    assert f"RayService rag: the API server answered {status}: because the server says so. " in (
        result.output
    )
    assert words in result.output


def test_an_invalid_object_is_refused_by_the_server(kube: FakeKube) -> None:
    empty = {**service(), "spec": {}}
    result = run("apply", "-", stdin=yaml.safe_dump(empty))
    assert "spec: Required value" in result.output


def test_a_server_that_hangs_is_given_up(kube: FakeKube) -> None:
    kube.answering.clear()
    result = run("status", "rag", "--api-timeout", "0.2")
    assert result.exit_code == 1
    assert "did not answer in time" in result.output


def test_a_server_that_is_away_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_kube.serving() as server:
        gone = server.url
    monkeypatch.setenv("KUBECONFIG", str(fake_kube.kubeconfig(tmp_path / "config", gone)))
    result = run("status")
    assert result.exit_code == 1
    assert "cannot be reached" in result.output
    assert "kubectl cluster-info" in result.output


def test_no_kubeconfig_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    result = run("status")
    assert result.exit_code == 1
    assert "No cluster to talk to" in result.output


def test_prove_prints_the_table_of_the_production_values() -> None:
    values = chart.CHART / "values-prod.yaml"
    helm = str(tools.helm(4))
    result = run("prove", str(chart.CHART), "--values", str(values), "--helm", helm)
    assert result.exit_code == 0, result.output
    assert "may land" in result.output
    assert "RayService/isthmus head" in result.output
    assert "taint sku=gpu:NoSchedule" in result.output
    assert "Proven" in result.output


def test_prove_fails_and_names_the_missing_layer(tmp_path: Path) -> None:
    weak = tmp_path / "weak.yaml"
    weak.write_text((chart.CHART / "values-spot.yaml").read_text().replace("spot: true", ""))
    pools = yaml.safe_load(weak.read_text())
    pools["nodePools"][2]["taints"] = []
    weak.write_text(yaml.safe_dump(pools))
    manifests = yaml.safe_dump_all(chart.rendered("spot"))
    result = run("prove", "-", "--pools", str(weak), stdin=manifests)
    assert result.exit_code == 1
    assert "the taint layer is missing towards GPU pool gpu " in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("prove", "-"), "Say which node pools there are"),
        (("prove", "absent.yaml", "--pools", "values-prod.yaml"), "Cannot read manifests"),
        (("prove", ".", "--helm", "no-such-helm"), "Cannot run no-such-helm"),
    ],
)
def test_prove_says_what_is_missing(
    arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(chart.CHART)
    result = run(*arguments, stdin="")
    assert result.exit_code == 1
    assert words in result.output


def test_prove_passes_on_helms_refusal(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("llm: {replicas: 0}\nnodePools: [{name: a, role: cpu, capacity: {cpu: 1}}]\n")
    helm = str(tools.helm(4))
    result = run("prove", str(chart.CHART), "--values", str(wrong), "--helm", helm)
    assert result.exit_code == 1
    assert "llm.replicas is 0" in result.output
