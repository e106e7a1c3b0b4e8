"""Marks on the real page: they change the ranking after adaptation, and can be removed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from semsearch.encoders.encoder import Encoder
from semsearch.search.engine import SearchEngine
from semsearch.server.security import WriteKeys
from tests.browser.conftest import serving
from tests.conftest import ANIMALS, build_index, write_jsonl

pytestmark = pytest.mark.browser

KEY = "a-key-of-enough-length"
THINGS = [
    {"id": f"{colour}-{thing}", "title": f"{colour} {thing}", "text": f"This {thing} is {colour}."}
    for colour in ("red", "green", "blue")
    for thing in ("chair", "table", "lamp", "door")
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, real_encoder: Encoder) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("marks")
    source = write_jsonl(folder / "a.jsonl", [*ANIMALS, *THINGS])
    build_index(folder / "a", source, model="all-MiniLM-L6-v2", title="Things", examples=["something blue"])
    with serving({"a": SearchEngine.open(folder / "a", encoder=real_encoder)}) as url:
        yield url


@pytest.fixture
def guarded(tmp_path_factory: pytest.TempPathFactory, real_encoder: Encoder) -> Iterator[str]:
    """A server with a write key."""
    folder = tmp_path_factory.mktemp("guarded")
    build_index(folder / "a", write_jsonl(folder / "a.jsonl", ANIMALS), model="all-MiniLM-L6-v2", title="Things")
    with serving({"a": SearchEngine.open(folder / "a", encoder=real_encoder)}, WriteKeys({"me": KEY})) as url:
        yield url


def ranking(container: Page | Locator) -> list[str]:
    return [str(hit.get_attribute("data-document")) for hit in container.locator("[data-document]").all()]


def mark(page: Page, document: str, *, relevant: bool) -> None:
    button = page.locator(f'[data-document="{document}"] [data-relevance="{int(relevant)}"]')
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")


def test_marking_eight_results_and_adapting_changes_the_ranking_and_undo_restores_it(page: Page) -> None:
    page.goto("/?query=something+to+sit+on&domain=team")
    before = ranking(page)
    wanted = before[7]
    for count, document in enumerate(before[:8], start=1):
        mark(page, document, relevant=document == wanted)
        expect(page.locator(".message")).to_have_text(f"{count} marked for this query.")
    page.evaluate("window.isSamePage = true")
    page.get_by_role("button", name="Adapt").click()
    expect(page.locator(".message")).to_contain_text("Learned from your marks (version 1).")
    expect(page.locator(".message")).to_contain_text("moved from rank 8 to 1.")
    # the previous and the current ranking are side by side, with lines between them
    previous, now = page.get_by_role("region", name="Before"), page.get_by_role("region", name="Now")
    assert ranking(previous) == before
    assert ranking(now)[0] == wanted
    expect(now.locator("[data-document]").first.locator(".other-rank")).to_have_text("was 8")
    expect(page.locator(".lines path.rises")).not_to_have_count(0)
    expect(page.locator(".moved-count")).to_contain_text("results moved")
    assert page.evaluate("window.isSamePage")
    expect(page.locator(".adapted-by")).to_have_text("Adapted to team")
    page.get_by_text("Details").click()
    expect(page.locator(".verdict")).to_contain_text("Version 1 (memory). It remembers 1 judged query")
    # the marks are kept
    expect(now.locator(f'[data-document="{wanted}"] [data-relevance="1"]')).to_have_attribute("aria-pressed", "true")
    page.locator(".adapting").get_by_role("button", name="Undo").click()
    expect(page.locator(".message")).to_contain_text("Undone: searches are no longer adapted.")
    expect(page.locator(".message")).to_contain_text("moved from rank 1 to 8.")
    assert ranking(page.get_by_role("region", name="Now")) == before
    expect(page.locator(".adapted-by")).to_have_text("Nothing learned yet for team")


def test_the_frozen_and_the_adapted_ranking_are_compared_side_by_side(page: Page) -> None:
    page.goto("/?query=a+thing+that+gives+light&domain=lights")
    before = ranking(page)
    mark(page, before[5], relevant=True)
    page.get_by_role("button", name="Adapt").click()
    expect(page.locator(".message")).to_contain_text("Learned from your marks")
    page.get_by_role("link", name="Before and after").click()
    frozen, adapted = (page.get_by_role("region", name=name, exact=True) for name in ("Without adaptation", "Adapted"))
    expect(page.locator(".lines path")).not_to_have_count(0)
    first = adapted.locator("[data-document]").first
    expect(first).to_have_attribute("data-document", before[5])
    expect(first.locator(".other-rank")).to_have_text("was 6")
    expect(frozen.locator("[data-document]").first).to_have_attribute("data-document", before[0])
    assert "compare=1" in page.url
    page.get_by_role("link", name="Results only").click()
    expect(page.locator(".sides")).to_have_count(0)


def test_a_mark_can_be_changed_and_removed(page: Page) -> None:
    page.goto("/?query=an+opening+in+a+wall&domain=doors")
    document = ranking(page)[0]
    mark(page, document, relevant=True)
    mark(page, document, relevant=False)
    expect(page.locator(f'[data-document="{document}"] [data-relevance="1"]')).to_have_attribute(
        "aria-pressed", "false"
    )
    page.locator(f'[data-document="{document}"] [data-relevance="0"]').click()
    expect(page.locator('[aria-pressed="true"]')).to_have_count(0)
    page.reload()
    expect(page.locator(".message")).to_have_text("")
    expect(page.locator('[aria-pressed="true"]')).to_have_count(0)


def test_counts_of_marks_agree_with_what_was_learned(page: Page) -> None:
    page.goto("/?query=a+floor+of+wood&domain=counts")
    documents = ranking(page)
    waiting = page.locator(".waiting")
    mark(page, documents[3], relevant=True)
    expect(waiting).to_have_text("1 marked result in all, not learned yet")
    mark(page, documents[4], relevant=False)
    expect(waiting).to_have_text("2 marked results in all, not learned yet")
    page.get_by_role("button", name="Adapt").click()
    expect(waiting).to_have_text("Learned from all 2 marked results")
    page.goto("/?query=something+made+of+glass&domain=counts")
    expect(page.locator('[aria-pressed="true"]')).to_have_count(0)
    mark(page, ranking(page)[2], relevant=True)
    expect(page.locator(".message")).to_have_text("1 marked for this query.")
    expect(waiting).to_have_text("3 marked results in all; Adapt learns the changes")
    page.locator('[aria-pressed="true"]').click()
    expect(page.locator(".message")).to_have_text("No mark left for this query.")
    expect(waiting).to_have_text("2 marked results in all; Adapt learns the changes")
    page.locator(".tray").get_by_role("button", name="Undo").click()
    expect(waiting).to_have_text("2 marked results in all; Adapt learns from them again")


def test_a_result_marked_on_the_second_page_is_followed_to_its_new_place(page: Page) -> None:
    page.goto("/?query=something+that+lives&domain=second&page=2")
    documents = ranking(page)
    mark(page, documents[4], relevant=True)
    title = page.locator(f'[data-document="{documents[4]}"] a.open').inner_text()
    page.get_by_role("button", name="Adapt").click()
    expect(page.locator(".message")).to_contain_text("Learned from your marks (version 1).")
    expect(page.locator(".message")).to_contain_text(f"“{title}” moved from rank 15 to 1.")
    assert "page=" not in page.url
    assert ranking(page)[0] == documents[4]
    expect(page.locator(".sides")).to_have_count(0)
    page.go_back()
    expect(page).to_have_url(re.compile("page=2"))


def test_above_a_few_marks_the_page_proposes_what_to_mark_next(page: Page) -> None:
    page.goto("/?query=a+thing+in+a+room&domain=next")
    documents = ranking(page)
    for document in documents[:2]:
        mark(page, document, relevant=True)
    expect(page.locator(".waiting")).to_have_text("2 marked results in all, not learned yet")
    expect(page.locator(".next")).to_have_text("")
    mark(page, documents[2], relevant=True)
    proposed = page.locator(".next button")
    expect(proposed).to_have_text(re.compile("^Worth marking next: “.+”$"))
    proposed.click()
    focused = page.evaluate("document.activeElement.closest('[data-document]').dataset.document")
    assert focused in documents[3:]
    # with every result marked, another query is proposed: an example of the index
    for document in documents[3:]:
        mark(page, document, relevant=False)
    expect(page.locator(".next")).to_have_text("Next, mark results of something blue")
    page.locator(".next a").click()
    expect(page.locator("#query")).to_have_value("something blue")
    assert "domain=next" in page.url


def test_results_are_marked_and_learned_from_without_scripts(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/?query=a+thing+to+close&domain=plain&page=2&mode=semantic")
    document = ranking(page)[2]
    expect(page.get_by_role("button", name="Adapt")).to_be_visible()
    assert "(needs JavaScript)" in page.locator(".adapting noscript").inner_html()
    expect(page.locator(".adapting noscript")).to_be_visible()
    page.locator(f'[data-document="{document}"] [data-relevance="1"]').click()
    expect(page.locator(".message").first).to_have_text("Marked.")
    assert re.search("mode=semantic.*page=2", page.url)
    pressed = page.locator('[aria-pressed="true"]')
    expect(pressed).to_have_count(1)
    assert pressed.get_attribute("value") == f"1:{document}"
    page.get_by_role("button", name="Adapt").click()
    expect(page.locator(".adapted-by")).to_have_text("Adapted to plain")
    page.goto("/?query=a+thing+to+close&domain=plain&mode=semantic")
    assert ranking(page)[0] == document
    page.locator(".adapting").get_by_role("button", name="Undo").click()
    expect(page.locator(".adapted-by")).to_have_text("Nothing learned yet for plain")
    page.get_by_role("link", name="What was learned").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.locator(".message")).to_have_text("The mark is removed.")
    context.close()


def test_the_domain_field_offers_the_existing_domains(page: Page) -> None:
    page.goto("/?query=a+place+for+plates&domain=plates")
    mark(page, ranking(page)[1], relevant=True)
    page.goto("/?query=a+place+for+plates")
    page.get_by_label("Learns from").focus()
    expect(page.locator('#domains option[value="plates"]')).to_have_count(1)
    page.get_by_label("Learns from").fill("plates")
    page.get_by_label("Learns from").press("Enter")
    expect(page.locator('[aria-pressed="true"]')).to_have_count(1)
    assert "domain=plates" in page.url


def test_the_key_is_requested_once(browser: Browser, guarded: str) -> None:
    context = browser.new_context(base_url=guarded)
    page = context.new_page()
    page.goto("/?query=an+animal&domain=team")
    expect(page.locator("dialog#key")).not_to_be_visible()
    button = page.locator('[data-relevance="1"]').nth(2)
    button.click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".message")).to_contain_text("this needs a write key")
    button.click()
    page.get_by_role("textbox", name="Key").fill("wrong" * 5)
    page.get_by_role("button", name="Use it").click()
    expect(page.locator(".message")).to_contain_text("this needs a write key")
    button.click()
    page.get_by_role("textbox", name="Key").fill(KEY)
    page.get_by_role("button", name="Use it").click()
    expect(button).to_have_attribute("aria-pressed", "true")
    page.locator('[data-relevance="0"]').nth(1).click()
    expect(page.locator('[aria-pressed="true"]')).to_have_count(2)
    context.close()
