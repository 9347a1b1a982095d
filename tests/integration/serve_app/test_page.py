"""The chat page in a real browser, on a real gateway: what a first-time user does, and attacks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from serve_app.auth import Key, Keys
from tests.integration.serve_app.conftest import MockProcess
from tests.support.page import ask, needs_chromium, opened, serving
from tests.support.processes import wait_for
from tests.support.rag import pdf
from tests.support.serve import Gateway
from tests.support.tap import Tap

QUESTION = "Which taint do the GPU node pools carry?"

pytestmark = needs_chromium


@pytest.fixture
def page(browser: Browser, served: Gateway) -> Iterator[Page]:
    with opened(browser, served.url) as page:
        yield page


def test_a_question_streams_and_its_source_opens(page: Page, mock: MockProcess) -> None:
    with mock.running(tokens_per_s=8):
        page.locator("#ideas").get_by_role("button", name=QUESTION).click()
        expect(page.locator(".answer.writing")).to_contain_text("The GPU")  # before the end
        expect(page.locator(".answer:not(.writing)")).to_contain_text("sku=gpu:NoSchedule")
    expect(page.locator(".meta")).to_contain_text("tokens/s")
    page.locator(".cite").click()
    panel = page.get_by_role("complementary")
    expect(panel.locator("mark")).to_contain_text("sku=gpu:NoSchedule")
    expect(panel).to_contain_text("pools.md")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(page.locator(".cite")).to_be_focused()


def test_the_api_is_described_and_tried_out_without_another_origin(
    browser: Browser, served: Gateway
) -> None:
    asked: list[str] = []
    with opened(browser, served.url) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{served.url}/docs")
        page.get_by_text("Find passages").click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        expect(page.locator(".live-responses-table")).to_contain_text("sku=gpu:NoSchedule")
    assert [url for url in asked if not url.startswith((f"{served.url}/", "data:"))] == []


def test_an_uploaded_document_can_be_asked_about(
    page: Page, mock: MockProcess, tmp_path: Path
) -> None:
    document = tmp_path / "zebra.md"
    document.write_text("# Zebra\n\nThe zebra enclosure opens at nine in the morning.\n")
    page.get_by_label("Add documents").set_input_files(document)
    expect(page.locator(".upload")).to_contain_text("Added, 1 chunk")
    with mock.running():
        ask(page, "When does the zebra enclosure open?")
        expect(page.locator(".answer")).to_contain_text("nine in the morning")
    expect(page.locator(".source").first).to_contain_text("Zebra")


def test_a_newcomers_first_document_from_upload_to_deletion(
    page: Page, served: Gateway, mock: MockProcess, tmp_path: Path
) -> None:
    document = tmp_path / "handbook.pdf"
    document.write_bytes(
        pdf("The capybara house opens at ten.", "Its keeper is called Amelia Ortega.")
    )
    page.get_by_label("Add documents").set_input_files(document)
    expect(page.locator(".upload[data-state=done]")).to_contain_text("Added, 2 chunks")
    with mock.running():
        ask(page, "When does the capybara house open?")
        expect(page.locator(".answer")).to_contain_text("opens at ten")
        page.locator(".cite").first.click()
        panel = page.get_by_role("complementary")
        expect(panel.locator("mark")).to_contain_text("opens at ten")
        expect(panel).to_contain_text("page 1")
        page.keyboard.press("Escape")
        ask(page, "What is its keeper called?")
        expect(page.locator(".answer").nth(1)).to_contain_text("Amelia Ortega")
    page.get_by_role("button", name="Documents", exact=True).click()
    library = page.get_by_role("dialog", name="Documents")
    library.get_by_role("button", name="Delete handbook.pdf").click()
    library.get_by_role("button", name="Delete", exact=True).click()
    expect(library).not_to_contain_text("handbook")
    with served.http() as http:
        assert "handbook.pdf" not in http.get("/v1/documents").text
        found = http.post("/v1/search", json={"query": "capybara house"}).json()["passages"]
    assert not any("capybara" in passage["text"] for passage in found)


def test_a_conversation_is_there_after_a_reload_until_it_is_deleted(
    page: Page, mock: MockProcess
) -> None:
    with mock.running():
        ask(page, "Which taint is on GPU pools, for the thread?")
        expect(page.locator(".meta")).to_be_visible()
    threads = page.get_by_role("navigation").locator("li", has_text="for the thread?")
    expect(threads).to_have_count(1)
    page.reload()
    expect(page.locator(".answer")).to_contain_text("sku=gpu")
    page.locator(".cite").first.click()
    expect(page.get_by_role("complementary").locator("mark")).to_contain_text("sku=gpu")
    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".answer")).to_have_count(0)
    threads.get_by_role("button").first.click()
    expect(page.locator(".answer")).to_contain_text("sku=gpu")
    threads.get_by_role("button", name="Delete").click()
    page.get_by_role("navigation").get_by_role("button", name="Delete", exact=True).click()
    expect(threads).to_have_count(0)
    expect(page.locator(".welcome")).to_be_visible()


def test_an_answer_can_be_rated(page: Page, served: Gateway, mock: MockProcess) -> None:
    with mock.running():
        ask(page, QUESTION)
        page.get_by_role("button", name="Bad answer").click()
    page.get_by_label("What was wrong?").fill("Too short.")
    page.keyboard.press("Enter")
    expect(page.locator(".why")).to_contain_text("Thank you.")
    with served.http() as http:
        said = http.get("/v1/feedback").json()["feedback"][0]
    assert (said["rating"], said["comment"], said["question"]) == ("down", "Too short.", QUESTION)
    assert "sku=gpu" in said["answer"]


def test_a_dropped_connection_is_taken_up_again(
    browser: Browser, served: Gateway, mock: MockProcess
) -> None:
    port = int(served.url.rpartition(":")[2])
    with (
        Tap(port) as tap,
        mock.running(tokens_per_s=15, answer_tokens=45),
        opened(browser, f"http://127.0.0.1:{tap.port}") as page,
    ):
        ask(page, QUESTION)
        expect(page.locator(".answer.writing")).to_contain_text("The GPU node pools")
        tap.cut()
        expect(page.locator(".meta")).to_be_visible(timeout=20_000)
        answer = page.locator(".answer").inner_text()
    numbers = [int(number) for number in re.findall(r"token(\d+)", answer)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 30


def test_the_keyboard_is_enough(page: Page, mock: MockProcess) -> None:
    page.keyboard.press("Escape")
    page.locator("body").click(position={"x": 700, "y": 300})
    page.keyboard.press("/")
    page.keyboard.type(QUESTION)
    with mock.running():
        page.keyboard.press("Enter")
        expect(page.locator(".meta")).to_be_visible()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("Your question")).to_have_value(QUESTION)
    page.keyboard.press("Control+Shift+O")
    expect(page.locator(".turn")).to_have_count(0)


def test_the_collection_can_be_picked(page: Page, served: Gateway, mock: MockProcess) -> None:
    with served.http() as http:
        note = {"file": ("otter.md", b"# Otter\n\nThe otter pool is heated to twelve degrees.\n")}
        assert http.post("/v1/documents?wait=60", files=note, data={"collection": "zoo"}).is_success
    page.reload()
    page.get_by_label("Collection", exact=True).select_option("zoo")
    with mock.running():
        ask(page, "How warm is the otter pool?")
        expect(page.locator(".answer")).to_contain_text("twelve degrees")


def test_a_file_that_cannot_be_read_says_why(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7 nothing")
    page.get_by_label("Add documents").set_input_files(broken)
    expect(page.locator(".upload[data-state=failed]")).to_contain_text("broken.pdf")


def test_markup_in_questions_and_documents_is_never_executed(
    page: Page, mock: MockProcess, tmp_path: Path
) -> None:
    attack = '<img src=x onerror="alert(1)"><script>alert(2)</script> [x](javascript:alert(3))'
    document = tmp_path / "attack.md"
    document.write_text(f"# Attack\n\nThe quokka said {attack} to everybody\n")
    page.get_by_label("Add documents").set_input_files(document)
    expect(page.locator(".upload[data-state=done]")).to_be_visible()
    with mock.running():
        ask(page, f"What did the quokka say? {attack}")
        expect(page.locator(".meta")).to_be_visible()
    page.locator(".source").first.click()
    expect(page.locator(".asked")).to_contain_text("<script>")
    assert page.locator("main img[src=x], aside img, main script, a[href^=javascript]").count() == 0


def test_stop_ends_the_llms_work(page: Page, mock: MockProcess) -> None:
    with mock.running(tokens_per_s=10, answer_tokens=10_000):
        ask(page, QUESTION)
        expect(page.locator(".answer")).to_be_visible()
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_role("alert")).to_contain_text("Stopped.")
        wait_for(lambda: mock.generating() == 0, 10, "the mock is told to stop")


def test_without_an_llm_the_passages_are_shown(page: Page, mock: MockProcess) -> None:
    ask(page, QUESTION)
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    page.locator(".source", has_text="Node pools").first.click()
    expect(page.get_by_role("complementary")).to_contain_text("sku=gpu")
    page.keyboard.press("Escape")
    with mock.running():
        page.get_by_role("button", name="Ask again", exact=True).click()
        expect(page.locator(".answer")).to_contain_text("sku=gpu:NoSchedule")


def test_the_theme_is_remembered(page: Page) -> None:
    page.get_by_role("button", name="Switch between dark and light").click()
    chosen = page.locator("html").get_attribute("data-theme")
    page.reload()
    assert chosen == "dark"
    assert page.locator("html").get_attribute("data-theme") == chosen


def test_a_phone_needs_no_sideways_scrolling(page: Page, mock: MockProcess) -> None:
    page.set_viewport_size({"width": 360, "height": 720})
    with mock.running():
        ask(page, QUESTION + " " + "unbreakable" * 20)
        expect(page.locator(".meta")).to_be_visible()
    page.locator(".source").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("document.querySelector('main').scrollWidth") <= 360


@pytest.fixture
def locked() -> Iterator[str]:
    """The URL of a gateway over fakes that asks for the key "opensesame"."""
    digest = hashlib.sha256(b"opensesame").hexdigest()
    rights = {"rights": ["ask", "ingest"], "collections": ["*"]}
    key = Key.model_validate({"sha256": digest, "tenant": "acme", **rights})
    with serving(Keys((key,))) as url:
        yield url


def test_a_locked_gateway_asks_for_the_key_and_goes_on(browser: Browser, locked: str) -> None:
    with opened(browser, locked) as page:
        ask(page, QUESTION)
        page.get_by_label("API key").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_label("API key").fill("opensesame")
        page.keyboard.press("Enter")
        expect(page.locator(".answer")).to_contain_text("sku=gpu")
        expect(page.locator("#key-dialog")).to_be_hidden()


def test_the_documents_of_a_locked_gateway_ask_for_the_key_too(
    browser: Browser, locked: str
) -> None:
    with opened(browser, locked) as page:
        page.get_by_role("button", name="Documents", exact=True).click()
        for key in ("wrong", "opensesame"):
            page.get_by_label("API key").fill(key)
            page.keyboard.press("Enter")
        expect(page.locator("#key-dialog")).to_be_hidden()
        expect(page.get_by_role("dialog", name="Documents")).to_contain_text("a.md")
