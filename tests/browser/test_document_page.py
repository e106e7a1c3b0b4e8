"""Documents in the side panel: opened at the passage, copied, explained, shared by the address."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from semsearch.encoders.encoder import Encoder
from semsearch.search.engine import SearchEngine
from tests.browser.axe import violations
from tests.browser.conftest import serving
from tests.conftest import ANIMALS, build_index, write_jsonl

pytestmark = pytest.mark.browser

LONG = {
    "id": "forest",
    "title": "The forest",
    "text": "\n\n".join(
        [f"Paragraph {n} is about trees, and about nothing else that grows there. " * 12 for n in range(8)]
        + ["Kingfishers dive for small fish along the stream at dawn. " * 6]
        + [f"Paragraph {n} is about moss on stones and bark, in every kind of weather. " * 12 for n in range(8)]
    ),
    "author": "A. Walker",
    "url": "https://example.org/forest",
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, real_encoder: Encoder) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("document")
    source = write_jsonl(folder / "a.jsonl", [*ANIMALS, LONG])
    build_index(folder / "a", source, model="all-MiniLM-L6-v2", title="Nature")
    with serving({"a": SearchEngine.open(folder / "a", encoder=real_encoder)}) as url:
        yield url


def test_a_result_opens_in_the_side_panel_at_its_passage(page: Page) -> None:
    page.set_viewport_size({"width": 1500, "height": 700})
    page.goto("/?query=birds+that+catch+fish")
    link = page.locator('[data-document="forest"] a.open')
    link.click()
    panel = page.get_by_role("complementary", name="Side panel")
    expect(panel.get_by_role("heading", name="The forest")).to_be_visible()
    expect(panel).to_be_focused()
    expect(panel.locator(".passage")).to_contain_text("Kingfishers dive")
    expect(panel.locator(".passage")).to_be_in_viewport()
    expect(page.locator(".hits li").first).to_be_visible()
    assert violations(page) == []
    # the address names the open document
    shared = page.url
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(link).to_be_focused()
    page.goto(shared)
    expect(panel.locator(".passage")).to_contain_text("Kingfishers dive")
    page.get_by_role("button", name="Close").click()
    expect(panel).to_be_hidden()
    # it does not open again
    page.go_back()
    expect(link).to_be_visible()
    expect(panel).to_be_hidden()


def test_the_side_panel_stays_open_during_another_search(page: Page) -> None:
    page.goto("/?query=honey")
    page.locator('[data-document="bee"] a.open').click()
    expect(page.locator("#panel h1")).to_have_text("Bee")
    page.fill("#query", "purrs")
    expect(page.locator(".hits a.open").first).to_have_text("Cat")
    expect(page.locator("#panel h1")).to_have_text("Bee")
    expect(page).to_have_url(re.compile("beside="))


def test_more_matching_passages_of_a_document_are_listed(page: Page) -> None:
    page.goto("/?query=trees+and+moss")
    more_passages = page.locator('[data-document="forest"] details.more-passages')
    expect(more_passages.locator("summary")).to_have_text("2 more matching passages")
    more_passages.locator("summary").click()
    more_passages.locator("a").first.click()
    expect(page.locator("#panel .passage")).not_to_be_empty()


def test_link_and_citation_are_copied(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto("/?query=fish+at+dawn")
    page.locator('[data-document="forest"] a.open').click()
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#panel .message")).to_have_text("Copied.")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(f"{address}/document?")
    page.get_by_role("button", name="Copy as citation").click()
    page.wait_for_function(
        "() => navigator.clipboard.readText().then(text => text.startsWith('A. Walker, “The forest”'))"
    )
    assert "https://example.org/forest, accessed 20" in page.evaluate("navigator.clipboard.readText()")
    page.goto(copied)
    expect(page.locator(".passage")).to_contain_text("Kingfishers")
    context.close()


def test_the_bars_of_an_explanation_add_up(page: Page) -> None:
    page.goto("/?query=an+insect+that+makes+honey")
    page.locator('[data-document="bee"] a.open').click()
    page.get_by_role("link", name="Why is it here?").click()
    bars = page.locator("#explanation table.score-breakdown tr")
    expect(bars).to_have_count(5)
    names = ["Semantic", "Adaptation", "Words compared one by one", "Keyword", "Total"]
    assert bars.locator("th").all_inner_texts() == names
    dense, adaptation, tokens, lexical, total = (float(value) for value in bars.locator(".number").all_inner_texts())
    assert adaptation == 0
    assert tokens > 0
    assert dense + tokens + lexical == pytest.approx(total, abs=0.002)
    expect(page.locator("#explanation")).to_contain_text("Rank 1 of 7")
    expect(page.locator(".attributions")).to_contain_text("honey")
    assert violations(page) == []


def test_a_document_can_be_read_without_a_script(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/?query=honey")
    page.locator('[data-document="bee"] a.open').click()
    expect(page.locator("h1")).to_have_text("Bee")
    page.get_by_role("link", name="Why is it here?").click()
    expect(page.locator("table.score-breakdown")).to_be_visible()
    page.locator(".back").click()
    expect(page.locator(".hits a.open").first).to_have_text("Bee")
    context.close()


def test_an_address_can_open_only_pages_of_the_server_in_the_side_panel(page: Page) -> None:
    for target in ("https://example.org/document", "//example.org/map", "/api/document?id=bee", "javascript:alert(1)"):
        page.goto("/?query=honey&beside=" + target.replace("/", "%2F").replace(":", "%3A").replace("?", "%3F"))
        expect(page.locator(".hits a.open").first).to_have_text("Bee")
        expect(page.locator("#panel")).to_be_hidden()
