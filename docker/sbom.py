"""Writes the software bill of materials of an image's Python packages, as CycloneDX JSON.

    python docker/sbom.py serve > sbom-serve.json
    python docker/sbom.py llm > sbom-llm.json

The list is pip's own resolution of the extra under constraints.txt, with the hash of every file,
and so what the Dockerfile installs. The base image's system packages are not in it: scan the built
image for those (docs/operations/install.md).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

Report = dict[str, Any]


def resolve(requirement: str) -> Report:
    """Return pip's installation report for a requirement, without installing it."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--disable-pip-version-check", "--constraint", str(ROOT / "constraints.txt")]
    done = subprocess.run(
        [*command, "--report", "-", requirement],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    report: Report = json.loads(done.stdout)
    return report


def bill(report: Report, name: str) -> Report:
    """Turn pip's report into a CycloneDX 1.6 document about the image `name`."""
    components = sorted((component(i) for i in report["install"]), key=lambda c: str(c["name"]))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": f"isthmus-{name}"}},
        "components": components,
    }


def component(item: Report) -> Report:
    """Describe one package of pip's report."""
    metadata = item["metadata"]
    purl = f"pkg:pypi/{metadata['name'].lower().replace('_', '-')}@{metadata['version']}"
    described: Report = {
        "type": "library",
        "bom-ref": purl,
        "name": metadata["name"],
        "version": metadata["version"],
        "purl": purl,
    }
    hashes = item["download_info"].get("archive_info", {}).get("hashes", {})
    if "sha256" in hashes:
        described["hashes"] = [{"alg": "SHA-256", "content": hashes["sha256"]}]
    if metadata.get("license_expression"):
        described["licenses"] = [{"expression": metadata["license_expression"]}]
    return described


def main() -> None:
    """Print the bill of one image."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("image", choices=["serve", "llm"])
    image = parser.parse_args().image
    json.dump(bill(resolve(f".[{image}]"), image), sys.stdout, indent=2)


if __name__ == "__main__":
    main()
