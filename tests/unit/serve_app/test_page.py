"""The page's files: how they are served, and that its colours can be read."""

from __future__ import annotations

import re
from itertools import product

import httpx
import pytest

from serve_app.routes.page import FILES, FOLDER

STYLE = (FOLDER / "style.css").read_text()
TEXT = ("text", "soft", "accent", "accent-strong", "good", "warn", "bad")
GROUNDS = ("ground", "surface", "sunken")
PAIRS = [*product(TEXT[:4], GROUNDS), *product(TEXT[4:], GROUNDS[:2])]
PAIRS += [("on-accent", "accent"), ("on-accent", "accent-strong"), ("on-mark", "mark")]
AA = 4.5
"""Least contrast of body text: https://www.w3.org/TR/WCAG22/#contrast-minimum."""


async def test_the_page_comes_with_a_strict_policy(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"


async def test_all_files_are_served_and_nothing_else(client: httpx.AsyncClient) -> None:
    assert set(FILES) | {"index.html", "docs.html"} == {path.name for path in FOLDER.iterdir()}
    for name, kind in FILES.items():
        assert (await client.get(f"/ui/{name}")).headers["content-type"].startswith(kind)
    for path in ("/ui/index.html", "/ui/..%2fapi.py", "/ui/%2e%2e/api.py", "/ui/"):
        assert (await client.get(path)).status_code == 404


def test_the_page_has_no_inline_code_and_no_foreign_origin() -> None:
    page = (FOLDER / "index.html").read_text()
    assert not re.search(r"\son\w+=|style=|<style|javascript:", page)
    for name in ("index.html", "app.js", "api.js", "markdown.js", "style.css"):
        text = (FOLDER / name).read_text()
        assert not re.search(r"(src|href|import|url\()\W*https?://", text), name
        assert "innerHTML" not in text


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_meet_wcag_aa(theme: str) -> None:
    block = STYLE.split(":root {" if theme == "light" else ':root[data-theme="dark"] {')[1]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block.split("}")[0]))
    too_weak = {
        f"{text} on {ground}": round(found, 2)
        for text, ground in PAIRS
        if (found := contrast(colours[text], colours[ground])) < AA
    }
    assert too_weak == {}


def test_both_dark_themes_are_the_same() -> None:
    by_system, by_choice = re.findall(r"\{(\s+--ground: #0f1514;[^}]+)\}", STYLE)
    assert by_system.split() == by_choice.split()


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
