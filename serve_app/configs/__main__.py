"""Write or check Ray Serve config files.

python -m serve_app.configs                  # write local.yaml and production.yaml
python -m serve_app.configs --check          # are they as the code generates them?
python -m serve_app.configs --check MY.yaml  # what is wrong with a file of one's own?
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from serve_app.configs.generate import FOLDER, HEADERS, complaints, text


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 when something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m serve_app.configs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; say what is wrong")
    parser.add_argument("files", nargs="*", type=Path, help="files of one's own; with --check")
    given = parser.parse_args(arguments)
    if given.files and not given.check:
        parser.error("files of one's own are only checked: add --check")
    if not given.check:
        for name in HEADERS:
            (FOLDER / name).write_text(text(name))
        return 0
    wrong = _stale() if not given.files else _wrong(given.files)
    for line in wrong:
        print(line, file=sys.stderr)  # noqa: T201
    return 1 if wrong else 0


def _stale() -> list[str]:
    return [
        f"{FOLDER / name} is not what the code generates; run `python -m serve_app.configs`."
        for name in HEADERS
        if (FOLDER / name).read_text() != text(name)
    ] + _wrong([FOLDER / name for name in HEADERS])


def _wrong(files: list[Path]) -> list[str]:
    found = []
    for path in files:
        try:
            found += [f"{path}: {complaint}" for complaint in complaints(path.read_text())]
        except OSError as error:
            found.append(f"{path} cannot be read: {error.strerror}")
    return found


if __name__ == "__main__":
    sys.exit(main())
