"""The domain's page: versions to restore, annotators, charts with their numbers, marks to remove."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from semsearch.encoders.encoder import Encoder
from semsearch.search.engine import SearchEngine
from semsearch.server.security import WriteKeys
from tests.browser.axe import violations
from tests.browser.conftest import serving
from tests.conftest import ANIMALS, build_index, write_jsonl

pytestmark = pytest.mark.browser

KEY = "a-key-of-enough-length"
QUERIES = {
    "a pet that purrs": "cat",
    "guards the house": "dog",
    "soars over mountains": "eagle",
    "swims up rivers": "salmon",
    "makes honey": "bee",
    "the largest animal": "whale",
}
NOTES = [{"id": f"n{n}", "title": f"Note {n}", "text": f"A note on animals and houses, number {n}."} for n in range(12)]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, real_encoder: Encoder) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("domain")
    source = write_jsonl(folder / "a.jsonl", [*ANIMALS, *NOTES])
    build_index(folder / "a", source, model="all-MiniLM-L6-v2", title="Animals")
    with serving({"a": SearchEngine.open(folder / "a", encoder=real_encoder)}) as url:
        yield url


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, real_encoder: Encoder) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("guarded")
    build_index(folder / "a", write_jsonl(folder / "a.jsonl", ANIMALS), model="all-MiniLM-L6-v2", title="Animals")
    with serving({"a": SearchEngine.open(folder / "a", encoder=real_encoder)}, WriteKeys({"me": KEY})) as url:
        yield url


def label_and_adapt(page: Page, domain: str) -> None:
    """Label six queries as two users, and adapt after the second and the last one."""
    for number, (query, document) in enumerate(QUERIES.items()):
        label = {"domain": domain, "query": query, "document": document, "user": ("ann", "bob")[number % 2]}
        page.request.post("/api/labels", data=label)
        if number in {1, 5}:
            assert page.request.post(f"/api/domains/{domain}/adapt", data={}).ok


def test_versions_annotators_and_the_guards_estimates_are_shown(page: Page) -> None:
    label_and_adapt(page, "team")
    page.goto("/?query=a+pet&domain=team")
    page.get_by_role("link", name="What was learned").click()
    panel = page.locator("#panel")
    expect(panel.locator("h1")).to_have_text("What team learned")
    expect(panel.locator(".versions > li")).to_have_count(2)
    expect(panel.locator(".versions > li").first).to_contain_text("Version 2, adapted")
    expect(panel.locator(".versions > li").last).to_contain_text("To learn more, it needs 4.")
    expect(panel.locator(".annotators")).to_contain_text("ann (local): 3 labels")
    expect(panel.locator(".annotators")).to_contain_text("bob (local): 3 labels")
    expect(panel.locator(".marked li")).to_have_count(6)
    chart = panel.locator("figure.chart").first
    expect(chart.locator("svg circle")).to_have_count(1)
    chart.locator("summary").click()
    cells = chart.locator("tbody tr").first.locator("th, td").all_inner_texts()
    assert cells[:2] == ["2", "6"]
    before, after = float(cells[2]), float(cells[3])
    low, high = (float(bound) for bound in cells[4].split(" – "))
    assert 0 <= low <= after <= high <= 1
    assert 0 <= before <= 1
    assert violations(page) == []


def test_an_earlier_version_can_be_restored_and_a_mark_removed(page: Page) -> None:
    label_and_adapt(page, "crew")
    page.goto("/?query=a+pet+that+purrs&domain=crew")
    page.get_by_role("link", name="What was learned").click()
    page.get_by_role("button", name="Restore version 1").click()
    expect(page.locator(".message")).to_have_text("Version 1 is in use again.")
    expect(page.locator(".verdict")).to_contain_text("Version 3")
    expect(page.locator("#panel .versions > li")).to_have_count(3)
    expect(page.locator("#panel .versions > li").first).to_contain_text("rolled back to version 1")
    page.get_by_role("button", name="Remove the mark on Cat for “a pet that purrs”").click()
    expect(page.locator("#panel .marked li")).to_have_count(5)
    page.reload()
    expect(page.locator("#panel .marked li")).to_have_count(5)


def test_the_page_of_a_domain_without_labels_says_what_to_do(page: Page) -> None:
    page.goto("/learned?domain=unlabelled")
    expect(page.locator("#answer")).to_contain_text("Nothing yet. Mark results and adapt")
    assert violations(page) == []


def test_a_suggested_query_leads_to_its_results_and_is_no_longer_suggested_once_marked(page: Page) -> None:
    for number in range(2):
        click = {"query": "hunts mice", "document": "cat", "position": 1, "domain": "asking", "id": f"c{number}"}
        assert page.request.post("/api/clicks", data=click).ok
    page.goto("/learned?domain=asking")
    suggested = page.get_by_role("list", name="Suggested to mark next")
    expect(suggested.get_by_role("listitem")).to_have_text("hunts mice asked 2 times")
    assert violations(page) == []
    suggested.get_by_role("link", name="hunts mice").click()
    expect(page.get_by_role("searchbox").or_(page.get_by_role("combobox", name="Search Animals"))).to_have_value(
        "hunts mice"
    )
    page.get_by_role("button", name="Relevant", exact=True).first.click()
    expect(page.locator("#tray .message")).to_have_text("1 marked for this query.")
    page.goto("/learned?domain=asking")
    expect(page.locator("#answer")).to_contain_text("Marked results")
    expect(page.get_by_text("Suggested to mark next")).to_have_count(0)


def test_the_page_requires_a_key_if_the_server_has_one(browser: Browser, guarded: str) -> None:
    context = browser.new_context(base_url=guarded)
    page = context.new_page()
    headers = {"Authorization": f"Bearer {KEY}"}
    label = {"domain": "team", "query": "secret words", "document": "cat"}
    assert page.request.post("/api/labels", data=label, headers=headers).ok
    refused = page.request.get("/learned?domain=team")
    assert (refused.status, "secret words" in refused.text()) == (401, False)
    assert "secret words" not in page.request.get("/status").text()
    page.goto("/?query=an+animal&domain=team")
    page.get_by_role("link", name="What was learned").click()
    page.get_by_role("textbox", name="Key").fill(KEY)
    page.get_by_role("button", name="Use it").click()
    expect(page.locator("#panel .marked")).to_contain_text("secret words")
    context.close()
