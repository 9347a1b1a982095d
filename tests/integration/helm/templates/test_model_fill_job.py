from __future__ import annotations

from tests.support import chart


def test_it_copies_the_blobs_onto_the_share_from_a_cpu_node() -> None:
    job = chart.one(chart.rendered("prod"), "Job")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["python3", "-m", "llm_backend.models.fetch"]
    assert container["args"] == [
        "az://models/llama-3.3-70b-instruct",
        "/share/llama-3.3-70b-instruct",
    ]
    assert chart.env_of(container)["AZURE_STORAGE_ACCOUNT_NAME"] == "exampleisthmus"
    share = next(m for m in container["volumeMounts"] if m["name"] == "share")
    assert "readOnly" not in share
    assert "nodeAffinity" in pod["affinity"]
    assert "tolerations" not in pod


def test_another_source_makes_another_job() -> None:
    other = {"modelStorage": {"share": {"fill": {"prefix": "v2"}}}}
    names = [
        *chart.objects(chart.rendered("prod"), "Job"),
        *chart.objects(chart.render(other, "values-prod.yaml"), "Job"),
    ]
    assert len(set(names)) == 2


def test_it_is_asked_for() -> None:
    assert chart.objects(chart.rendered("spot"), "Job") == {}
