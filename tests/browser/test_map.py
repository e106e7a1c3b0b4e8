"""The map: drawing, previews, moving and zooming, highlights, and a query before and after adaptation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, Position, expect

from semsearch.encoders.encoder import Encoder
from semsearch.search.engine import SearchEngine
from tests.browser.axe import violations
from tests.browser.conftest import serving
from tests.conftest import ANIMALS, build_index, write_jsonl

pytestmark = pytest.mark.browser

THINGS = [
    {"id": f"{colour}-{thing}", "title": f"{colour} {thing}", "text": f"This {thing} is {colour}."}
    for colour in ("red", "green", "blue", "white", "black", "yellow", "grey", "brown")
    for thing in ("chair", "table", "lamp", "door", "window", "roof", "floor", "wall")
]
COUNT_DRAWN = """() => {
    const canvas = document.querySelector("canvas");
    if (!canvas) return 0;
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let drawn = 0;
    for (let alpha = 3; alpha < data.length; alpha += 4) drawn += data[alpha] > 0;
    return drawn;
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, real_encoder: Encoder) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("map")
    source = write_jsonl(folder / "a.jsonl", [*ANIMALS, *THINGS])
    build_index(folder / "a", source, model="all-MiniLM-L6-v2", title="Things")
    build_index(folder / "b", source, model="all-MiniLM-L6-v2", title="Unmapped", map=False)
    with serving({name: SearchEngine.open(folder / name, encoder=real_encoder) for name in "ab"}) as url:
        yield url


def position_of(page: Page, title: str) -> Position:
    """The position on the canvas of one of the results."""
    page.locator("details summary").click()
    coordinates = page.locator("tbody tr", has_text=title).locator("td").inner_text()
    x, y = (float(percent) / 100 for percent in coordinates.split(", "))
    canvas = page.locator("canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    side = min(box["width"], box["height"])
    return {"x": (x - 0.5) * side + box["width"] / 2, "y": (y - 0.5) * side + box["height"] / 2}


def test_the_map_in_the_side_panel_follows_the_search(page: Page) -> None:
    page.goto("/?query=something+to+sit+on")
    page.get_by_role("link", name="Show on a map of all documents", exact=True).click()
    page.wait_for_function(f"() => ({COUNT_DRAWN})() > 500")
    numbers = page.locator("#panel details")
    numbers.locator("summary").click()
    expect(numbers.locator("tbody tr")).to_have_count(21)
    expect(page.locator(".moved-query")).to_have_text("Adaptation does not move your query.")
    before = numbers.locator("tbody tr").first.inner_text()
    assert violations(page) == []
    page.fill("#query", "a loyal animal")
    expect(numbers.locator("tbody tr").nth(1)).to_contain_text("Dog")
    assert numbers.locator("tbody tr").first.inner_text() != before
    expect(page).to_have_url(re.compile("beside=%2Fmap"))


def test_pointing_at_a_passage_previews_it_and_clicking_opens_it(page: Page) -> None:
    page.goto("/map?query=an+animal+that+barks")
    page.wait_for_function(f"() => ({COUNT_DRAWN})() > 500")
    dog, canvas = position_of(page, "Dog"), page.locator("canvas")
    canvas.hover(position=dog)
    expect(page.locator(".tooltip a")).to_have_text("Dog")
    expect(page.locator(".tooltip")).to_contain_text("A loyal animal that barks")
    canvas.click(position=dog)
    expect(page.locator("h1")).to_have_text("Dog")


def test_wheel_drag_buttons_and_keys_move_and_zoom_the_map(page: Page) -> None:
    page.goto("/map?query=a+lamp")
    page.wait_for_function(f"() => ({COUNT_DRAWN})() > 500")
    picture = "document.querySelector('canvas').toDataURL()"
    canvas = page.locator("canvas")

    def assert_changes(act: Callable[[], object]) -> None:
        before = page.evaluate(picture)
        act()
        page.wait_for_function(f"before => {picture} !== before", arg=before)

    canvas.hover()
    assert_changes(lambda: page.mouse.wheel(0, -300))

    def drag() -> None:
        page.mouse.down()
        page.mouse.move(500, 300, steps=4)
        page.mouse.up()

    assert_changes(drag)
    assert_changes(lambda: page.get_by_role("button", name="Zoom in").click())
    assert_changes(lambda: canvas.press("ArrowLeft"))
    assert_changes(lambda: canvas.press("-"))
    before = page.evaluate(picture)
    assert_changes(lambda: page.get_by_role("button", name="Show all").click())
    assert page.evaluate(picture) != before


def test_a_query_is_shown_before_and_after_adaptation(page: Page) -> None:
    page.goto("/?query=something+to+sit+on&domain=movers")
    page.locator("[data-relevance='1']").nth(9).click()
    page.get_by_role("button", name="Adapt").click()
    expect(page.locator(".message")).to_contain_text("Learned from your marks")
    page.get_by_role("link", name="Show on a map of all documents", exact=True).click()
    expect(page.locator(".moved-query")).to_contain_text(
        re.compile(r"Adaptation moves your query by [\d.]+% of the map")
    )
    page.locator("#panel details summary").click()
    expect(page.locator("#panel tbody tr").last).to_contain_text("before adaptation")


def test_the_map_says_what_is_wrong_instead_of_an_empty_box(page: Page) -> None:
    points = "**/api/map/points*"
    page.route(points, lambda route: route.fulfill(status=404, json={}))
    page.goto("/map?query=a+chair")
    expect(page.locator(".map-message")).to_have_text(re.compile("has no map at the moment"))
    expect(page.locator("canvas")).to_be_hidden()
    page.unroute(points)
    page.route(points, lambda route: route.abort())
    page.reload()
    expect(page.locator(".map-message")).to_have_text(re.compile("cannot be loaded"))
    page.unroute(points)
    page.reload()
    expect(page.locator(".map-message")).to_be_hidden()
    page.wait_for_function(f"() => ({COUNT_DRAWN})() > 500")


def test_the_map_is_drawn_anew_when_the_index_has_changed(page: Page) -> None:
    page.goto("/map?query=an+animal+that+barks")
    page.wait_for_function(f"() => ({COUNT_DRAWN})() > 500")
    dog = position_of(page, "Dog")
    page.route("**/api/map/passage*", lambda route: route.fulfill(status=409, json={}))
    with page.expect_response("**/api/map/points*"):
        page.locator("canvas").hover(position=dog)
    expect(page.locator(".map-message")).to_be_hidden()
    page.wait_for_function(f"() => ({COUNT_DRAWN})() > 500")


def test_an_index_without_a_map_says_what_to_do(page: Page) -> None:
    page.goto("/?query=a+chair&index=b")
    expect(page.locator(".hits li").first).to_be_visible()
    expect(page.get_by_role("link", name="Show on a map of all documents", exact=True)).to_have_count(0)
    page.goto("/map?index=b")
    expect(page.locator("#answer")).to_contain_text("has no map: build it again")
