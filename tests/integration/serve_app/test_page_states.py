"""What the page does when a gateway refuses, breaks off or cannot do all: its answers scripted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from contracts.errors import Code, envelope
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

NOBODY = {"status": 503, "body": "<html>No server is available.</html>"}
LATER = {"status": 429, "headers": {"retry-after": "3"}, "json": {"error": {"message": "Later."}}}
REST = "v1/chat/completions/events"
HASTE = """() => {
  const wait = setTimeout;
  window.waited = [];
  window.setTimeout = (act, ms) => { waited.push(ms); return wait(act, Math.min(ms, 10)); };
}"""
"""No pause of the page is longer than 10 ms; it notes how long each would have been."""
CITATION = {
    "number": 1,
    "document_id": "d1",
    "title": "Pools",
    "source": "pools.md",
    "page": None,
    "heading": None,
    "quote": "The taint is\nsku=gpu",
    "passage": "The taint is sku=gpu, everywhere.",
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(Keys(())) as url:
        yield url


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    with opened(browser, url) as page:
        page.evaluate(HASTE)
        yield page


def waited(page: Page, *, least: int) -> list[int]:
    """Return the pauses of the page from `least` milliseconds on."""
    return [ms for ms in page.evaluate("waited") if ms >= least]


def test_a_refusal_to_take_an_answer_up_is_waited_out(page: Page) -> None:
    script(page, "v1/chat/completions", streamed(said("one ")))
    rest = streamed(said("two"), end(), DONE, first=2)
    asked = script(page, REST, NOBODY, LATER, "connectionrefused", {"status": 500}, rest)
    ask(page, "?")
    expect(page.locator(".answer:not(.writing)")).to_have_text("one two")
    expect(page.locator(".meta")).to_be_visible()
    assert {one.headers["last-event-id"] for one in asked} == {"chatcmpl-1.1"}
    assert waited(page, least=400) == [400, 800, 3000, 3200, 6400]


def test_what_is_waited_for_stands_below_the_answer(page: Page) -> None:
    page.evaluate("""() => {  // the answer is drawn late, after the connection was lost
      window.requestAnimationFrame = (act) => setInterval(act, 100);
      window.cancelAnimationFrame = clearInterval;
    }""")
    script(page, "v1/chat/completions", streamed(said("one ")))
    page.route(f"**/{REST}", lambda _: None)  # no answer comes
    ask(page, "?")
    page.wait_for_timeout(300)
    expect(page.locator(".answer + .waiting")).to_contain_text("Reconnecting")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".waiting")).to_have_count(0)


def test_a_refusal_that_stays_is_told(page: Page) -> None:
    script(page, "v1/chat/completions", streamed(said("one ")))
    asked = script(page, REST, NOBODY)
    ask(page, "?")
    expect(page.get_by_role("alert").first).to_contain_text("The gateway answered HTTP 503.")
    expect(page.locator(".answer")).to_have_text("one")
    assert len(asked) == 6
    assert max(waited(page, least=400)) == 10_000


def test_a_refusal_that_waiting_does_not_change_is_told_at_once(page: Page) -> None:
    script(page, "v1/chat/completions", streamed(said("one ")))
    gone = envelope(Code.NOT_FOUND, "There is no such answer.").model_dump()
    asked = script(page, REST, {"status": 404, "json": gone})
    ask(page, "?")
    expect(page.get_by_role("alert").first).to_contain_text("There is no such answer.")
    assert len(asked) == 1


def test_a_question_that_is_refused_is_not_asked_again(page: Page) -> None:
    asked = script(page, "v1/chat/completions", NOBODY)
    ask(page, "?")
    expect(page.get_by_role("alert").first).to_contain_text("HTTP 503")
    assert len(asked) == 1


def test_stop_ends_the_waiting(page: Page) -> None:
    script(page, "v1/chat/completions", streamed(said("one ")))
    page.evaluate("() => { window.setTimeout = () => 0; }")  # the pause has no end of its own
    script(page, REST, NOBODY)
    ask(page, "?")
    expect(page.locator(".waiting")).to_contain_text("Reconnecting")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("alert").first).to_contain_text("Stopped.")


def job(status: str, done: int, **facts: Any) -> dict[str, Any]:
    known = {"id": "j1", "status": status, "chunks_done": done, "chunks_total": 3, "eta_s": None}
    return {**known, "updated_at": float(done), "error": None, "result": "created", **facts}


def upload(page: Page) -> None:
    file = {"name": "a.md", "mimeType": "text/markdown", "buffer": b"# A"}
    page.get_by_label("Add documents").set_input_files(files=[file])


def test_an_upload_is_followed_over_a_restart_of_the_ingestor(page: Page) -> None:
    script(page, "v1/documents", {"status": 202, "json": job("queued", 0)})
    restarting = envelope(Code.NOT_READY, "The ingestor is starting.").model_dump()
    script(
        page,
        "v1/jobs/j1/events",
        streamed(job("embedding", 1), restarting),
        NOBODY,
        "connectionrefused",
        streamed(job("embedding", 2)),
        streamed(job("done", 3)),
    )
    upload(page)
    expect(page.locator(".upload[data-state=done]")).to_contain_text("Added, 3 chunks")


@pytest.mark.parametrize(
    ("answer", "asked_for", "why"),
    [
        (
            streamed(job("failed", 1, error={"message": "It is no text.", "code": "x"})),
            1,
            "no text",
        ),
        (NOBODY, 11, "may still be added"),
    ],
    ids=["failed", "unknown"],
)
def test_an_upload_that_did_not_work_out_says_why(
    page: Page, answer: dict[str, Any], asked_for: int, why: str
) -> None:
    script(page, "v1/documents", {"status": 202, "json": job("queued", 0)})
    asked = script(page, "v1/jobs/j1/events", answer)
    upload(page)
    expect(page.locator(".upload[data-state=failed]")).to_contain_text(why)
    assert len(asked) == asked_for


@pytest.mark.parametrize(
    ("grounded", "notice"),
    [(True, "No model could answer."), (False, "does not rest on the documents")],
)
def test_a_degraded_answer_says_what_it_lacks(page: Page, *, grounded: bool, notice: str) -> None:
    last = end(degraded=True, grounded=grounded)
    script(page, "v1/chat/completions", streamed(said("Text."), last, DONE))
    ask(page, "?")
    expect(page.locator(".notice")).to_have_count(1)
    expect(page.locator(".notice")).to_contain_text(notice)


def test_each_number_of_a_marker_opens_its_source(page: Page) -> None:
    other = {**CITATION, "number": 2, "title": "Nodes"}
    last = end(CITATION, other)
    script(page, "v1/chat/completions", streamed(said("**Both say so [1, 2].**"), last, DONE))
    ask(page, "?")
    page.locator(".answer strong .cite", has_text="2").click()
    panel = page.get_by_role("complementary", name="Nodes")
    expect(panel.locator("mark")).to_have_text("The taint is sku=gpu")


@pytest.mark.parametrize(("citations", "buttons"), [((), 0), ((CITATION,), 1)])
def test_what_cites_nothing_is_no_button(
    page: Page, citations: tuple[dict[str, object], ...], buttons: int
) -> None:
    text = "In [1], unlike [2]."
    script(page, "v1/chat/completions", streamed(said(text), end(*citations), DONE))
    ask(page, "?")
    expect(page.get_by_role("button", name="Good answer")).to_be_visible()
    expect(page.locator(".answer .cite")).to_have_count(buttons)
    expect(page.locator(".answer")).to_contain_text("unlike [2]")


def test_a_conversation_that_cannot_be_deleted_stays(page: Page) -> None:
    thread = {"id": "t1", "title": "Taints", "updated": "2026-11-26T12:00:00Z"}
    page.route("**/v1/threads", lambda route: route.fulfill(json={"threads": [thread]}))
    page.reload()
    script(page, "v1/threads/t1", "internetdisconnected")
    side = page.get_by_role("navigation")
    side.get_by_role("button", name="Delete “Taints”").click()
    side.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator("#threads-empty")).to_contain_text("cannot be reached")
    expect(side.get_by_role("button", name="Delete “Taints”")).to_be_visible()


def test_a_reason_that_cannot_be_sent_is_kept(page: Page) -> None:
    ask(page, "?")
    page.get_by_role("button", name="Bad answer").click()
    field = page.get_by_label("What was wrong?")
    field.fill("Too short.")
    refused = script(page, "v1/feedback", "internetdisconnected")
    page.keyboard.press("Enter")
    expect(page.locator(".why").get_by_role("alert")).to_contain_text("cannot be reached")
    expect(field).to_have_value("Too short.")
    page.unroute("**/v1/feedback")
    page.keyboard.press("Enter")
    expect(page.locator(".why")).to_have_text("Thank you.")
    assert len(refused) == 1


def test_without_a_clipboard_there_is_nothing_to_copy_by(page: Page) -> None:
    page.evaluate("() => { delete Navigator.prototype.clipboard; }")  # as on plain http
    ask(page, "?")
    expect(page.get_by_role("button", name="Good answer")).to_be_visible()
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)
