"""Answers in Markdown, as the page's own renderer makes them into elements."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from contracts.sse import DONE
from serve_app.auth import Keys
from tests.support.page import (
    ask,
    end,
    needs_chromium,
    opened,
    said,
    script,
    serving,
    streamed,
)

pytestmark = needs_chromium

RENDER = """async (text) => {
  const { render } = await import("/ui/markdown.js");
  const body = document.createElement("div");
  const cite = (n) => Object.assign(document.createElement("button"), { textContent: n });
  body.append(render(text, cite));
  return body.innerHTML;
}"""
TABLE = "| Pool | Taint |\n|:--|--:|\n| gpu | `sku=gpu` [1] |\n| a \\| b |"
LISTS = {
    "numbers go on after what is between": (
        "1. One\n- sub\n2. Two",
        '<ol start="1"><li>One</li></ol><ul><li>sub</li></ul><ol start="2"><li>Two</li></ol>',
    ),
    "what is further in is inside": (
        "1. One\n   - sub\n     1. deep\n   - more\n2. Two",
        '<ol start="1"><li>One<ul><li>sub<ol start="1"><li>deep</li></ol></li><li>more</li></ul>'
        "</li><li>Two</li></ol>",
    ),
    "blank lines do not end it": (
        "3. Three\n\n   * sub\n\n4. Four\n\nText",
        '<ol start="3"><li>Three<ul><li>sub</li></ul></li><li>Four</li></ol><p>Text</p>',
    ),
    "a paragraph does": (
        "1. One\n\n   More of it.\n\n2. Two",
        '<ol start="1"><li>One</li></ol><p>   More of it.</p><ol start="2"><li>Two</li></ol>',
    ),
    "an item goes on": ("- One\n  and on\n- Two", "<ul><li>One\nand on</li><li>Two</li></ul>"),
}
MARKERS = {
    "[1, 2]": "<p><button>1</button><button>2</button></p>",
    "**So [1]**": "<p><strong>So <button>1</button></strong></p>",
    "*So `x` [12]*": "<p><em>So <code>x</code> <button>12</button></em></p>",
    "[1](https://a.b/)": '<p><a href="https://a.b/" rel="noopener noreferrer nofollow" '
    'target="_blank">1</a></p>',
    "`[1]` [1,] [1234]": "<p><code>[1]</code> [1,] [1234]</p>",
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Keys(())) as url:
        yield url


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    with opened(browser, url) as page:
        yield page


@pytest.mark.parametrize(("text", "shown"), LISTS.values(), ids=LISTS)
def test_lists(page: Page, text: str, shown: str) -> None:
    assert page.evaluate(RENDER, text) == shown


@pytest.mark.parametrize(("text", "shown"), MARKERS.items())
def test_markers(page: Page, text: str, shown: str) -> None:
    assert page.evaluate(RENDER, text) == shown


@pytest.mark.parametrize("before", ["", "As a table:\n"])
def test_a_table(page: Page, before: str) -> None:
    shown = page.evaluate(RENDER, f"{before}{TABLE}\n\nText | more")
    assert shown == (
        f"{'<p>As a table:</p>' if before else ''}"
        '<div class="table" tabindex="0"><table><thead><tr><th>Pool</th><th>Taint</th></tr></thead>'
        "<tbody><tr><td>gpu</td><td><code>sku=gpu</code> <button>1</button></td></tr>"
        "<tr><td>a | b</td><td></td></tr></tbody></table></div><p>Text | more</p>"
    )


def test_markup_in_a_table_stays_text(page: Page) -> None:
    attack = '<img src=x onerror="alert(1)">'
    shown = page.evaluate(RENDER, f"| {attack} |\n|---|\n| **{attack}** |")
    assert "<img" not in shown
    assert shown.count("&lt;img") == 2


def test_a_wide_table_scrolls_by_itself_on_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 720})
    table = f"|{'Column|' * 12}\n|{'---|' * 12}\n|{'unbreakable words|' * 12}"
    script(page, "v1/chat/completions", streamed(said(table), end(), DONE))
    ask(page, "?")
    frame = page.locator(".answer .table")
    expect(frame.locator("td")).to_have_count(12)
    assert frame.evaluate("(e) => e.scrollWidth > e.clientWidth")
    assert page.evaluate("document.querySelector('main').scrollWidth") <= 360
