"""The map: it is drawn, read, moved and lit, and shows what adaptation does to a query."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from semsearch.encoders.encoder import Encoder
from semsearch.search.engine import SearchEngine
from tests.browser.axe import complaints
from tests.browser.conftest import serving
from tests.conftest import ANIMALS, build_index, write_jsonl

pytestmark = pytest.mark.browser

THINGS = [
    {"id": f"{colour}-{thing}", "title": f"{colour} {thing}", "text": f"This {thing} is {colour}."}
    for colour in ("red", "green", "blue", "white", "black", "yellow", "grey", "brown")
    for thing in ("chair", "table", "lamp", "door", "window", "roof", "floor", "wall")
]
INKED = """() => {
    const canvas = document.querySelector("canvas");
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let inked = 0;
    for (let at = 3; at < data.length; at += 4) inked += data[at] > 0;
    return inked;
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, real_encoder: Encoder) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("map")
    source = write_jsonl(folder / "a.jsonl", [*ANIMALS, *THINGS])
    build_index(folder / "a", source, model="all-MiniLM-L6-v2", title="Things")
    build_index(folder / "b", source, model="all-MiniLM-L6-v2", title="Unmapped", map=False)
    with serving({name: SearchEngine.open(folder / name, encoder=real_encoder) for name in "ab"}) as at:
        yield at


def test_the_map_is_drawn_and_lit_beside_the_results_and_follows_the_search(page: Page) -> None:
    page.goto("/?query=something+to+sit+on")
    page.get_by_role("link", name="Map", exact=True).click()
    page.wait_for_function(f"() => ({INKED})() > 500")
    numbers = page.locator("#panel details")
    numbers.locator("summary").click()
    expect(numbers.locator("tbody tr")).to_have_count(21)
    expect(page.locator(".moved-query")).to_have_text("Your query stands where it would without adaptation.")
    before = numbers.locator("tbody tr").first.inner_text()
    assert complaints(page) == []
    page.fill("#query", "a loyal animal")
    expect(numbers.locator("tbody tr").nth(1)).to_contain_text("Dog")
    assert numbers.locator("tbody tr").first.inner_text() != before
    expect(page).to_have_url(re.compile("beside=%2Fmap"))


def test_pointing_reads_and_pressing_opens(page: Page) -> None:
    page.goto("/map?query=an+animal+that+barks")
    page.wait_for_function(f"() => ({INKED})() > 500")
    page.locator("details summary").click()
    place = page.locator("tbody tr", has_text="Dog").locator("td").inner_text()
    x, y = (float(one) / 100 for one in place.split(", "))
    canvas = page.locator("canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    side = min(box["width"], box["height"])
    at = ((x - 0.5) * side + box["width"] / 2, (y - 0.5) * side + box["height"] / 2)
    canvas.hover(position={"x": at[0], "y": at[1]})
    expect(page.locator(".pointed a")).to_have_text("Dog")
    expect(page.locator(".pointed")).to_contain_text("A loyal animal that barks")
    canvas.click(position={"x": at[0], "y": at[1]})
    expect(page.locator("h1")).to_have_text("Dog")


def test_it_is_moved_and_zoomed_by_wheel_drag_buttons_and_keys(page: Page) -> None:
    page.goto("/map?query=a+lamp")
    page.wait_for_function(f"() => ({INKED})() > 500")
    picture = "document.querySelector('canvas').toDataURL()"
    canvas = page.locator("canvas")

    def changes(act: object) -> None:
        assert callable(act)
        before = page.evaluate(picture)
        act()
        page.wait_for_function(f"before => {picture} !== before", arg=before)

    canvas.hover()
    changes(lambda: page.mouse.wheel(0, -300))

    def drag() -> None:
        page.mouse.down()
        page.mouse.move(500, 300, steps=4)
        page.mouse.up()

    changes(drag)
    changes(lambda: page.get_by_role("button", name="Zoom in").click())
    changes(lambda: canvas.press("ArrowLeft"))
    changes(lambda: canvas.press("-"))
    whole = page.evaluate(picture)
    changes(lambda: page.get_by_role("button", name="Show all").click())
    assert page.evaluate(picture) != whole


def test_a_query_is_shown_before_and_after_adaptation(page: Page) -> None:
    page.goto("/?query=something+to+sit+on&domain=movers")
    page.locator("[data-gain='1']").nth(9).click()
    page.get_by_role("button", name="Adapt").click()
    expect(page.locator(".told")).to_contain_text("serves from now on")
    page.get_by_role("link", name="Map", exact=True).click()
    expect(page.locator(".moved-query")).to_contain_text(re.compile(r"Adaptation moves your query [\d.]+% of the map"))
    page.locator("#panel details summary").click()
    expect(page.locator("#panel tbody tr").last).to_contain_text("before adaptation")


def test_an_index_without_a_map_says_what_to_do(page: Page) -> None:
    page.goto("/?query=a+chair&index=b")
    expect(page.locator(".hits li").first).to_be_visible()
    expect(page.get_by_role("link", name="Map", exact=True)).to_have_count(0)
    page.goto("/map?index=b")
    expect(page.locator("#answer")).to_contain_text("has no map: build it again")
