"""The page for everyone: nothing axe complains of in any state, every width, keys only, other languages and scripts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from semsearch.encoders.encoder import Encoder
from semsearch.search.engine import SearchEngine
from tests.browser.axe import complaints
from tests.browser.conftest import serving
from tests.conftest import ANIMALS, build_index, write_jsonl

pytestmark = pytest.mark.browser

OTHERS = [
    {"id": "熊猫", "title": "大熊猫", "text": "大熊猫生活在竹林里，主要吃竹子。"},
    {"id": "جمل", "title": "الجمل", "text": "الجمل حيوان يعيش في الصحراء ويصبر على العطش."},
    *({"id": f"n{n}", "title": f"Note {n}", "text": f"An animal note, number {n}", "kind": "note"} for n in range(20)),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, real_encoder: Encoder) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("everyone")
    source = write_jsonl(folder / "a.jsonl", [*ANIMALS, *OTHERS])
    build_index(folder / "a", source, model="all-MiniLM-L6-v2", title="Animals", facets=["kind"])
    with serving({"a": SearchEngine.open(folder / "a", encoder=real_encoder)}) as at:
        yield at


def _nothing(_page: Page) -> None: ...


def _adapted(page: Page) -> None:
    page.locator("[data-gain='1']").nth(4).click()
    page.get_by_role("button", name="Adapt").click()
    expect(page.locator(".told")).to_contain_text("serves")


STATES: dict[str, tuple[str, Callable[[Page], None]]] = {
    "start": ("/", _nothing),
    "results": ("/?query=animal", _nothing),
    "second page": ("/?query=animal&page=2", _nothing),
    "compared": ("/?query=animal&compare=1", _nothing),
    "marked and adapted": ("/?query=a+note&domain=states", _adapted),
    "filtered": ("/?query=animal&filter=kind+%3D+mammal&sort=-title", _nothing),
    "nothing found": ("/?query=zzzqqq&mode=keyword", _nothing),
    "no more": ("/?query=animal&page=50", _nothing),
    "refused": ("/?query=animal&filter=kind+%3D", _nothing),
    "no such index": ("/?query=animal&index=none", _nothing),
    "keys": ("/?query=animal", lambda page: page.get_by_role("button", name="Keys and settings").click()),
    "document": ("/document?id=cat&query=animal", _nothing),
    "explanation": ("/explanation?id=cat&query=animal", _nothing),
    "learned": ("/learned?domain=states", _nothing),
    "map": ("/map?query=animal", _nothing),
    "status": ("/status", _nothing),
    "in Chinese": ("/?query=animal&lang=zh-Hans", _nothing),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_anybody_from_using_any_state(browser: Browser, address: str, scheme: str) -> None:
    context = browser.new_context(base_url=address, color_scheme="dark" if scheme == "dark" else "light")
    page = context.new_page()
    found = {}
    for name, (path, act) in STATES.items():
        page.goto(path)
        act(page)
        if broken := complaints(page):
            found[name] = broken
    context.close()
    assert found == {}


@pytest.mark.parametrize("width", [360, 768, 1280, 2560])
def test_it_fits_every_width(browser: Browser, address: str, width: int) -> None:
    size = ViewportSize(width=width, height=800)
    context = browser.new_context(base_url=address, viewport=size)
    page = context.new_page()
    wide = []
    for name, (path, act) in STATES.items():
        page.goto(path)
        act(page)
        if page.evaluate("document.documentElement.scrollWidth") > width:
            wide.append(name)
    page.goto("/?query=animal")
    page.locator(".hits a.open").first.click()
    expect(page.locator("#panel h1")).to_be_visible()
    if page.evaluate("document.documentElement.scrollWidth") > width:
        wide.append("panel")
    context.close()
    assert wide == []


def test_searching_teaching_and_reading_take_no_mouse(page: Page) -> None:
    page.goto("/?domain=keys")
    page.keyboard.type("a note")
    expect(page.locator(".hits li")).to_have_count(10)
    before = page.locator("[data-document]").nth(3).get_attribute("data-document")
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("r")
    expect(page.locator(".told")).to_have_text("1 marked for this query.")
    page.keyboard.press("a")
    expect(page.locator(".told")).to_have_text("Version 1 serves from now on.")
    expect(page.get_by_role("region", name="Now").locator("[data-document]").first).to_have_attribute(
        "data-document", str(before)
    )
    page.keyboard.press("c")
    expect(page).to_have_url(re.compile("compare=1"))
    page.keyboard.press("c")
    expect(page.locator(".sides")).to_have_count(0)
    page.keyboard.press("h")
    expect(page.locator("#panel h1")).to_have_text("What keys learned")
    page.keyboard.press("Escape")
    page.keyboard.press("m")
    expect(page.locator("#panel h1")).to_have_text("Map of the corpus")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_label("Single letters are keys").press("Space")
    page.keyboard.press("Escape")
    page.keyboard.press("m")
    expect(page.locator("#panel")).to_be_hidden()


def test_what_changes_is_told_to_those_who_do_not_see_it(page: Page) -> None:
    page.goto("/?query=animal&domain=told")
    assert page.locator(".summary").get_attribute("role") == "status"
    page.locator("[data-gain='0']").first.click()
    expect(page.get_by_role("status").filter(has_text="1 marked for this query.")).to_be_visible()
    expect(page.locator(".by")).to_have_attribute("role", "status")


def test_the_first_thing_that_tab_reaches_leads_past_the_form(page: Page) -> None:
    page.goto("/?query=animal")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the results")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_be_focused()


def test_chinese_and_arabic_are_searched_for_and_shown_in_their_direction(page: Page) -> None:
    page.goto("/?query=竹子")
    expect(page.locator(".hits a.open").first).to_have_text("大熊猫")
    page.goto("/?query=حيوان يعيش في الصحراء")
    first = page.locator(".hits li").first
    expect(first.locator("a.open")).to_have_text("الجمل")
    direction = "element => getComputedStyle(element).direction"
    assert first.locator(".snippet").evaluate(direction) == "rtl"
    assert page.locator("#query").evaluate(direction) == "rtl"
    assert page.locator(".summary").evaluate(direction) == "ltr"


def test_the_browsers_language_is_spoken_and_another_one_can_be_chosen(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, locale="zh-CN")
    page = context.new_page()
    page.goto("/?query=竹子&domain=语言")
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
    expect(page.get_by_role("button", name="搜索", exact=True)).to_be_visible()
    page.locator("[data-gain='1']").first.click()
    expect(page.locator(".told")).to_have_text("此查询已标记 1 条。")
    page.get_by_role("link", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.locator("#query")).to_have_value("竹子")
    expect(page).to_have_url(re.compile("domain="))
    page.fill("#query", "purrs")
    expect(page.locator(".hits a.open").first).to_have_text("Cat")
    expect(page).to_have_url(re.compile("lang=en"))
    context.close()


def test_nothing_moves_for_those_who_want_it_still(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, reduced_motion="reduce")
    page = context.new_page()
    page.goto("/?query=animal")
    moving = """() => [...document.querySelectorAll("*")].filter(one => {
        const style = getComputedStyle(one);
        return parseFloat(style.transitionDuration) > 0 || style.animationName !== "none";
    }).length"""
    assert page.evaluate(moving) == 0
    context.close()


def test_on_paper_there_are_results_and_no_controls(page: Page) -> None:
    page.goto("/?query=animal&domain=paper")
    page.emulate_media(media="print")
    for control in (".search", ".marks", ".filtering", ".foot", ".pages"):
        expect(page.locator(control).first).to_be_hidden()
    expect(page.locator(".hits .snippet").first).to_be_visible()
