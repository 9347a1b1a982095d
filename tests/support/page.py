"""The chat page in a browser, and a gateway over fakes to open it on."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, Request, Route

from contracts import headers, sse
from serve_app.api import create_api
from serve_app.auth import Keys
from tests.support.processes import free_port, wait_for
from tests.unit.serve_app.conftest import Fakes

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium; on Debian: apt-get install chromium"
)


@contextmanager
def opened(browser: Browser, url: str) -> Iterator[Page]:
    """The page at `url`; any script error, CSP violation or foreign request fails the test."""
    context = browser.new_context()
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
    page.on("console", lambda m: "Security Policy" in m.text and problems.append(m.text))
    page.on("request", lambda r: r.url.startswith(url) or problems.append(r.url))
    page.goto(url)
    yield page
    context.close()
    assert problems == []


def ask(page: Page, question: str) -> None:
    """Ask as a person does."""
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Enter")


@contextmanager
def serving(keys: Keys) -> Iterator[str]:
    """The URL of a gateway over fakes with `keys`, until the block ends."""
    api = create_api(Fakes().services(keys))
    config = uvicorn.Config(api, port=free_port(), log_level=50)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, 10, "the gateway over fakes listens")
        yield f"http://127.0.0.1:{config.port}"
    finally:
        server.should_exit = True
        thread.join()


def script(page: Page, path: str, *answers: Mapping[str, Any] | str) -> list[Request]:
    """Have `answers` come from `path`, one after the other, and the last again.

    Args:
        page: whose requests.
        path: below the page's address; `*` stands for a part of it.
        answers: arguments of Playwright's `Route.fulfill`; a word is how the connection fails.

    Returns:
        the requests, as they come.
    """
    asked: list[Request] = []

    def answer(route: Route) -> None:
        wanted = answers[min(len(asked), len(answers) - 1)]
        asked.append(route.request)
        if isinstance(wanted, str):
            route.abort(wanted)
        else:
            route.fulfill(**wanted)

    page.route(f"**/{path}", answer)
    return asked


def streamed(*events: Mapping[str, Any] | str, first: int = 1) -> dict[str, Any]:
    """A resumable stream of `events` that ends cleanly after them; the ids count from `first`."""
    data = [one if isinstance(one, str) else json.dumps(one) for one in events]
    frames = [sse.encode(one, id=f"chatcmpl-1.{n}") for n, one in enumerate(data, first)]
    sent = {headers.RESUMABLE: "60"}
    return {"content_type": sse.MEDIA_TYPE, "headers": sent, "body": b"".join(frames)}


def said(text: str) -> dict[str, Any]:
    """A chunk with a piece of an answer."""
    return {"id": "chatcmpl-1", "choices": [{"delta": {"content": text}}]}


def end(*citations: Mapping[str, Any], **info: Any) -> dict[str, Any]:
    """The chunk that ends an answer, with what it rests on and how it came about."""
    choice = {"delta": {}, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "choices": [choice], "citations": citations, "isthmus": info}
