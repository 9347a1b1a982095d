from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ray.autoscaler._private.kuberay import autoscaling_config
from ray.serve.schema import ServeDeploySchema

from serve_app import ingress
from serve_app.app import CPU_SHARES
from serve_app.configs.generate import unknown_keys
from tests.support import chart
from tests.support.network import RAY, Network, Peer
from tests.support.processes import ROOT

CONFIGS = chart.CHART.parents[1] / "serve_app/configs"

Spec = dict[str, Any]


def cluster(case: str) -> Spec:
    spec: Spec = chart.one(chart.rendered(case), "RayService")["spec"]["rayClusterConfig"]
    return spec


def pods(case: str) -> list[Spec]:
    spec = cluster(case)
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [g["template"]["spec"] for g in groups]


def test_ray_itself_sees_no_gpu_anywhere() -> None:
    """Ray's own reading of the resource, the one that its autoscaler acts on."""
    for case in chart.MATRIX:
        raycluster = {
            "apiVersion": "ray.io/v1",
            "kind": "RayCluster",
            "metadata": {"name": "x", "namespace": "rag"},
            "spec": cluster(case),
        }
        config = autoscaling_config._derive_autoscaling_config_from_ray_cr(raycluster)
        groups = config["available_node_types"]
        assert groups["headgroup"]["resources"]["CPU"] == 0
        assert not any(g["resources"].get("GPU") for g in groups.values())


def test_haproxy_takes_the_connections() -> None:
    for pod in pods("prod"):
        given = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
        assert given["RAY_SERVE_ENABLE_HA_PROXY"] == given["RAY_SERVE_THROUGHPUT_OPTIMIZED"] == "1"
        assert ingress.RETRIES.items() <= given.items()
        program = Path(given["RAY_SERVE_HAPROXY_BINARY_PATH"])
        assert program.name == ingress.PROGRAM
        dockerfile = (ROOT / "docker/Dockerfile.serve").read_text()
        assert f"python -m venv {program.parent.parent}\n" in dockerfile


def test_groups_scale_between_their_bounds() -> None:
    (group,) = cluster("prod")["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (2, 2, 20)
    assert cluster("prod")["enableInTreeAutoscaling"] is True
    assert cluster("prod")["autoscalerOptions"]["version"] == "v2"


def test_serve_reads_its_config_and_every_key_is_known() -> None:
    for case in chart.MATRIX:
        spec = chart.one(chart.rendered(case), "RayService")["spec"]
        config = yaml.safe_load(spec["serveConfigV2"])
        parsed = ServeDeploySchema.model_validate(config)
        assert unknown_keys(config, ServeDeploySchema) == []
        assert [d.name for d in parsed.applications[0].deployments] == [
            "Gateway",
            "Retriever",
            "Ingestor",
        ]
        assert {d.name for d in parsed.applications[0].deployments} == set(CPU_SHARES)


def test_an_unknown_serve_key_is_caught() -> None:
    config = {"applications": [{"deployments": [{"autoscaling_confg": {}}]}], "proxy": 1}
    assert unknown_keys(config, ServeDeploySchema) == [
        "proxy",
        "applications.deployments.autoscaling_confg",
    ]
    nested = {"applications": [{"deployments": [{"autoscaling_config": {"min_replica": 1}}]}]}
    assert unknown_keys(nested, ServeDeploySchema) == [
        "applications.deployments.autoscaling_config.min_replica"
    ]


def test_the_control_plane_survives_in_redis() -> None:
    options = cluster("prod")["gcsFaultToleranceOptions"]
    assert options["redisAddress"] == "redis-master.redis.svc:6379"
    assert options["redisPassword"]["valueFrom"]["secretKeyRef"]["name"] == "isthmus-redis"
    assert "gcsFaultToleranceOptions" not in cluster("default")


def test_upgrades_cost_no_request() -> None:
    spec = chart.one(chart.rendered("prod"), "RayService")["spec"]
    assert spec["upgradeStrategy"] == {"type": "NewCluster"}
    gradual = chart.one(chart.rendered("gateway-api"), "RayService")["spec"]["upgradeStrategy"]
    assert gradual["clusterUpgradeOptions"]["gatewayClassName"] == "istio"


def test_a_pod_that_goes_lets_streams_finish() -> None:
    for pod in pods("prod"):
        (container,) = pod["containers"]
        command = container["lifecycle"]["preStop"]["exec"]["command"][-1]
        slept = int(command.split(";")[0].split()[1])
        assert slept >= 150
        assert pod["terminationGracePeriodSeconds"] > slept


def test_only_the_heads_autoscaler_gets_a_token() -> None:
    head, worker = pods("prod")
    assert head["automountServiceAccountToken"] is True
    assert worker["automountServiceAccountToken"] is False


def test_token_auth_is_on_unless_turned_off() -> None:
    assert cluster("prod")["authOptions"] == {"mode": "token"}
    assert cluster("gateway-api")["authOptions"]["secretName"] == "ray-token"
    assert "authOptions" not in cluster("open")


def test_every_ray_pod_is_held_to_the_cpu_pool() -> None:
    for pod in pods("prod"):
        required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert required["nodeSelectorTerms"] == [
            {"matchExpressions": [{"key": "isthmus.dev/pool", "operator": "In", "values": ["cpu"]}]}
        ]
        assert "tolerations" not in pod


def test_secrets_reach_the_environment() -> None:
    for pod in pods("gateway-api"):
        assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "api-keys"}}]
        key = chart.env_of(pod["containers"][0])["RAG_LLM_API_KEY"]["secretKeyRef"]
        assert key == {"name": "isthmus-llm-key", "key": "api-key"}


def test_what_replicas_share_comes_from_secrets() -> None:
    for pod in pods("prod"):
        env = chart.env_of(pod["containers"][0])
        for name, secret, key in (
            ("SERVE_REDIS_URL", "isthmus-redis-url", "redis-url"),
            ("RAG_MEMORY_URL", "isthmus-memory", "memory-url"),
        ):
            assert env[name]["secretKeyRef"] == {"name": secret, "key": key}


def test_alone_a_pod_remembers_in_a_file_that_it_may_write() -> None:
    _, worker = pods("default")
    file = chart.env_of(worker["containers"][0])["RAG_MEMORY_URL"]
    mounts = {m["mountPath"]: m for m in worker["containers"][0]["volumeMounts"]}
    assert "readOnly" not in mounts[file.rpartition("/")[0]]


def test_an_identity_provider_is_named_and_reached() -> None:
    for pod in pods("gateway-api"):
        env = chart.env_of(pod["containers"][0])
        assert env["SERVE_OIDC_ISSUER"] == "https://login.example.com"
        assert env["SERVE_OIDC_AUDIENCE"] == "isthmus"
    oidc = {"issuer": "https://login.example.com", "audience": "isthmus"}
    net = Network(chart.render({"serve": {"oidc": oidc}}))
    assert net.allows(RAY, Peer(address="20.0.0.1"), 443)


def test_tables_are_mounted() -> None:
    for pod in pods("gateway-api"):
        (container,) = pod["containers"]
        mount = next(m for m in container["volumeMounts"] if m["name"] == "tables")["mountPath"]
        env = chart.env_of(container)
        assert env["RAG_MODELS_FILE"] == f"{mount}/models.toml"
        assert env["RAG_MCP_FILE"] == f"{mount}/mcp.toml"


def test_an_external_api_is_called_by_its_own_name() -> None:
    spec = cluster("external-tls")["headGroupSpec"]["template"]["spec"]
    env = chart.env_of(spec["containers"][0])
    assert env["RAG_LLM_URL"] == "https://api.x:443/v1"


def test_api_keys_are_mounted_as_a_file() -> None:
    for pod in pods("prod"):
        (container,) = pod["containers"]
        file = chart.env_of(container)["SERVE_API_KEYS_FILE"]
        mount = next(m for m in container["volumeMounts"] if m["name"] == "api-keys")
        assert file == f"{mount['mountPath']}/api-keys.json"
        volume = next(v for v in pod["volumes"] if v["name"] == "api-keys")
        assert volume["secret"]["secretName"] == "isthmus-api-keys"


def test_the_serve_config_is_the_one_that_was_tuned() -> None:
    """`serve_app/configs/production.yaml`, but for how many replicas there may be."""
    rendered = yaml.safe_load(
        chart.one(chart.rendered("prod"), "RayService")["spec"]["serveConfigV2"]
    )
    tuned = yaml.safe_load((CONFIGS / "production.yaml").read_text())
    for config in (rendered, tuned):
        for deployment in config["applications"][0]["deployments"]:
            for bound in ("min_replicas", "max_replicas"):
                deployment.get("autoscaling_config", {}).pop(bound, None)
    assert rendered == tuned
