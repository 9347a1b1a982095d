"""The bill of materials lists what pip would install, pinned and hashed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def sbom() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "docker/sbom.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_real_resolution_becomes_a_bill(sbom: ModuleType) -> None:
    bill = sbom.bill(sbom.resolve("httpx"), "test")
    by_name = {c["name"].lower(): c for c in bill["components"]}
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    assert {"httpx", "httpcore", "anyio", "idna", "certifi"} <= set(by_name)
    assert by_name["httpx"]["version"] == pins["httpx"]
    assert by_name["httpx"]["purl"] == f"pkg:pypi/httpx@{pins['httpx']}"
    for part in bill["components"]:
        (digest,) = part["hashes"]
        assert digest["alg"] == "SHA-256"
        assert len(digest["content"]) == 64
    assert json.loads(json.dumps(bill))["specVersion"] == "1.6"


def test_names_are_normalised_and_licences_kept(sbom: ModuleType) -> None:
    item = {
        "metadata": {"name": "Typing_Extensions", "version": "4", "license_expression": "PSF-2.0"},
        "download_info": {},
    }
    found = sbom.component(item)
    assert found["purl"] == "pkg:pypi/typing-extensions@4"
    assert found["licenses"] == [{"expression": "PSF-2.0"}]
    assert "hashes" not in found
