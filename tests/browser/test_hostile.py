"""A corpus written by an attacker: none of its markup runs or changes the page."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from semsearch.encoders.encoder import Encoder
from semsearch.search.engine import SearchEngine
from tests.browser.conftest import serving
from tests.conftest import build_index, write_jsonl

pytestmark = pytest.mark.browser

MARKUP = [
    "<script>window.ran = 1</script>",
    "<img src=x onerror='window.ran = 1'>",
    '"><svg onload="window.ran = 1">',
    "</title></textarea></main><script>window.ran = 1</script>",
    "{{ 7 * 7 }} ${7 * 7} {count}",
    "javascript:window.ran = 1",
    "<a href='javascript:window.ran=1'>x</a><base href='https://example.org'>",
    "' onmouseover='window.ran = 1",
]
HOSTILE = [
    {
        "id": f"{text}/{number}",
        "title": f"{text} honey",
        "text": f"honey {text} from the {number}th hive, gathered by bees",
        "url": ("javascript:window.ran=1", "data:text/html,<script>parent.ran=1</script>", "https://[bad", "ftp://x")[
            number % 4
        ],
        text[:40]: text,
        "kind": text[:50],
    }
    for number, text in enumerate(MARKUP)
]
STRANGE = [
    {"id": "override", "title": "honey \u202egnol dna sdrawkcab\u2066\u2067", "text": "honey \u202etxet sdrawkcab"},
    {"id": "endless", "title": "honey " + "w" * 100_000, "text": "honey " + "x" * 1_000_000},
    {"id": "zalgo", "title": "honey Z" + "\u0310\u0315\u0321" * 200, "text": "honey " + "a\u0308\u0323" * 500},
    {"id": "nulls", "title": "honey \u0001\u0008", "text": "honey \ufeff\u200b\u2028 lines"},
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, real_encoder: Encoder) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("hostile")
    source = write_jsonl(folder / "a.jsonl", [*HOSTILE, *STRANGE])
    build_index(
        folder / "a",
        source,
        model="all-MiniLM-L6-v2",
        title="<script>window.ran = 1</script>",
        description="<img src=x onerror='window.ran = 1'>",
        facets=["kind"],
    )
    with serving({"a": SearchEngine.open(folder / "a", encoder=real_encoder)}) as url:
        yield url


def assert_unharmed(page: Page) -> None:
    assert page.evaluate("window.ran") is None
    assert page.evaluate("document.querySelectorAll('main script, main img, main svg[onload], base').length") == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    links = page.evaluate("[...document.querySelectorAll('a')].map(link => link.protocol)")
    assert set(links) <= {"http:", "https:"}


@pytest.mark.parametrize("page_number", [1, 2])
def test_results_show_markup_as_text(page: Page, page_number: int) -> None:
    page.set_viewport_size({"width": 700, "height": 900})
    page.goto(f"/?query=honey&page={page_number}")
    expect(page.locator(".hits li").first).to_be_visible()
    assert_unharmed(page)
    # what turns letters around does so within itself
    assert page.locator(".hits bdi, .hits [dir=auto]").count() > 0


def test_each_document_opens_in_the_side_panel_and_is_explained(page: Page) -> None:
    page.goto("/?query=honey+hive")
    for number in range(page.locator(".hits a.open").count()):
        link = page.locator(".hits a.open").nth(number)
        title = link.inner_text()
        link.click()
        expect(page.locator("#panel h1")).to_contain_text(title.removesuffix("…"))
        page.get_by_role("link", name="Why is it here?").click()
        expect(page.locator("#explanation h2")).to_be_visible()
        assert_unharmed(page)
        page.keyboard.press("Escape")


@pytest.mark.parametrize("text", MARKUP)
def test_markup_in_the_address_is_shown_as_text(page: Page, text: str) -> None:
    given = quote(text, safe="")
    for path in (
        f"/?query={given}&domain={given}&filter={given}&sort={given}&mode=",
        f"/?query={given}&domain={given}&sort={given}&lang={given}",
        f"/?query={given}&beside={given}",
        f"/document?id={given}&query={given}",
        f"/explanation?id={given}&query={given}",
        f"/learned?domain={given}",
        f"/map?query={given}&domain={given}",
    ):
        page.goto(path)
        expect(page.locator("#answer")).to_be_visible()
        assert_unharmed(page)


def test_marks_suggestions_and_the_map_show_markup_as_text(page: Page) -> None:
    query = MARKUP[1]
    page.goto(f"/?query={quote(query)}&domain={quote(MARKUP[0])}")
    page.locator("[data-relevance='1']").first.click()
    expect(page.locator(".message")).to_contain_text("1 marked")
    page.get_by_role("button", name="Adapt").click()
    expect(page.locator(".message")).to_contain_text("Learned from your marks")
    assert_unharmed(page)
    page.get_by_role("link", name="What was learned").click()
    expect(page.locator("#panel .marked")).to_contain_text(query)
    assert_unharmed(page)
    page.keyboard.press("Escape")
    page.fill("#query", "<img")
    page.keyboard.press("End")
    page.keyboard.type(" ")
    expect(page.locator("#suggestions li").first).to_have_text(query)
    assert_unharmed(page)
    page.goto(f"/map?query={quote(query)}")
    page.locator("details summary").click()
    expect(page.locator("tbody tr")).to_have_count(13)
    assert_unharmed(page)
    page.goto("/status")
    assert_unharmed(page)
