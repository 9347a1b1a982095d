from __future__ import annotations

from typing import Any

import pytest

from tests.support import chart

Spec = dict[str, Any]


def job(case: str) -> Spec:
    spec: Spec = chart.objects(chart.rendered(case), "MPIJob")["isthmus-llm-0"]["spec"]
    return spec


def pods(spec: Spec) -> dict[str, Spec]:
    return {role: s["template"]["spec"] for role, s in spec["mpiReplicaSpecs"].items()}


def test_one_job_for_each_replica() -> None:
    assert set(chart.objects(chart.rendered("prod"), "MPIJob")) == {
        "isthmus-llm-0",
        "isthmus-llm-1",
    }


@pytest.mark.parametrize(("case", "workers"), [("prod", 0), ("ranks-on-hosts", 1)])
def test_ranks_add_up_to_the_tensor_parallel_size(case: str, workers: int) -> None:
    spec = job(case)
    assert spec["runLauncherAsWorker"] is True
    replicas = spec["mpiReplicaSpecs"].get("Worker", {"replicas": 0})["replicas"]
    assert replicas == workers
    env = chart.env_of(pods(spec)["Launcher"]["containers"][0])
    assert int(env["LLM_TENSOR_PARALLEL"]) == spec["slotsPerWorker"] * (1 + workers)


def test_it_lives_until_it_is_deleted() -> None:
    spec = job("ranks-on-hosts")
    assert spec["launcherCreationPolicy"] == "WaitForWorkersReady"
    assert spec["runPolicy"] == {
        "cleanPodPolicy": "Running",
        "suspend": True,
        "backoffLimit": 1000000,
    }
    for replica in spec["mpiReplicaSpecs"].values():
        assert replica["restartPolicy"] == "OnFailure"


def test_every_rank_claims_its_gpus_and_shared_memory() -> None:
    for pod in pods(job("ranks-on-hosts")).values():
        limits = pod["containers"][0]["resources"]["limits"]
        assert limits["nvidia.com/gpu"] == 4
        assert limits["rdma/hca_shared_devices_a"] == 1
        shm = next(v for v in pod["volumes"] if v["name"] == "shm")
        assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}
        assert pod["hostNetwork"] is True
        assert chart.env_of(pod["containers"][0])["NCCL_SOCKET_IFNAME"] == "eth0"
        assert pod["containers"][0]["securityContext"]["capabilities"] == {
            "drop": ["ALL"],
            "add": ["IPC_LOCK"],
        }


def test_the_launcher_serves_and_workers_take_ssh() -> None:
    found = pods(job("ranks-on-hosts"))
    launcher, worker = found["Launcher"]["containers"][0], found["Worker"]["containers"][0]
    assert launcher["command"] == ["python3", "-m", "llm_backend.inference_server"]
    assert worker["command"][0] == "/usr/sbin/sshd"
    assert worker["readinessProbe"]["tcpSocket"] == {"port": "ssh"}


def test_the_launcher_names_every_host_of_its_ranks() -> None:
    """Itself as localhost: its DNS record, and on the host's network its name, would not do."""
    container = pods(job("ranks-on-hosts"))["Launcher"]["containers"][0]
    worker = "isthmus-llm-0-worker-0.isthmus-llm-0.rag.svc"
    assert chart.env_of(container)["LLM_MPIRUN_ARGS"] == f"--host localhost:4,{worker}:4"
    alone = pods(job("prod"))["Launcher"]["containers"][0]
    assert chart.env_of(alone)["LLM_MPIRUN_ARGS"] == "--host localhost:4"


def test_probes_ask_the_right_endpoints() -> None:
    container = pods(job("spot"))["Launcher"]["containers"][0]
    paths = {
        p: container[f"{p}Probe"]["httpGet"]["path"] for p in ("startup", "readiness", "liveness")
    }
    assert paths == {"startup": "/healthz", "readiness": "/readyz", "liveness": "/healthz"}
    budget = (
        container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"]
    )
    assert budget == 1200


def test_with_mtls_the_probe_shows_a_certificate() -> None:
    container = pods(job("mtls"))["Launcher"]["containers"][0]
    assert container["readinessProbe"]["exec"]["command"] == [
        "python3",
        "/scripts/probe.py",
        "https://localhost:8001/readyz",
    ]
    env = chart.env_of(container)
    assert env["LLM_TLS_CLIENT_CA"] == "/etc/isthmus/tls/ca.crt"
    admitted = set(env["LLM_TLS_CLIENT_NAMES"].split(","))
    for name in ("isthmus-gateway", "isthmus-llm"):  # the gateway; the probe, by the LLM's own
        certificate = chart.one(chart.rendered("mtls"), "Certificate", name)["spec"]
        assert admitted & set(certificate["dnsNames"])


def test_the_grace_period_covers_the_drain() -> None:
    pod = pods(job("spot"))["Launcher"]
    drain = float(chart.env_of(pod["containers"][0])["LLM_DRAIN_TIMEOUT_S"])
    assert pod["terminationGracePeriodSeconds"] > drain


def test_a_worker_outlives_the_launchers_drain() -> None:
    """Its ranks belong to the launcher, which lets running requests finish first."""
    pod = pods(job("ranks-on-hosts"))["Worker"]
    (hook,) = (c["lifecycle"]["preStop"]["exec"]["command"][-1] for c in pod["containers"])
    assert "llm_backend[.]runtime" in hook  # not spelt so that the shell would find itself
    assert pod["terminationGracePeriodSeconds"] > 25


def test_weights_from_blobs_are_fetched_before_the_server_starts() -> None:
    pod = pods(job("spot"))["Launcher"]
    (init,) = pod["initContainers"]
    source, target = init["args"]
    assert source == "az://models/qwen2.5-7b-instruct"
    assert chart.env_of(init)["AZURE_STORAGE_ACCOUNT_NAME"] == "exampleisthmus"
    assert target == chart.env_of(pod["containers"][0])["LLM_MODEL"]
    assert next(m for m in init["volumeMounts"] if m["name"] == "models")["mountPath"] == "/models"
    labels = job("spot")["mpiReplicaSpecs"]["Launcher"]["template"]["metadata"]["labels"]
    assert labels["azure.workload.identity/use"] == "true"
    models = next(v for v in pod["volumes"] if v["name"] == "models")
    assert models["emptyDir"] == {"sizeLimit": "256Gi"}


@pytest.mark.parametrize(
    ("case", "volume"),
    [
        ("prod", {"hostPath": {"path": "/mnt/nvme/isthmus", "type": "Directory"}}),
        (
            "netapp",
            {
                "ephemeral": {
                    "volumeClaimTemplate": {
                        "spec": {
                            "accessModes": ["ReadWriteOnce"],
                            "storageClassName": "local-nvme",
                            "resources": {"requests": {"storage": "256Gi"}},
                        }
                    }
                }
            },
        ),
    ],
)
def test_a_cache_stands_before_the_share(case: str, volume: Spec) -> None:
    pod = pods(job(case))["Launcher"]
    (init,) = pod["initContainers"]
    assert init["args"] == ["/share/llama-3.3-70b-instruct", "/models/llama-3.3-70b-instruct"]
    models = next(v for v in pod["volumes"] if v["name"] == "models")
    assert models == {"name": "models", **volume}


def test_a_bundled_model_needs_no_volume() -> None:
    pod = pods(job("default"))["Launcher"]
    assert "initContainers" not in pod
    assert "models" not in {v["name"] for v in pod["volumes"]}
    assert chart.env_of(pod["containers"][0])["LLM_MODEL"] == "bundled:smollm2-135m-instruct"
