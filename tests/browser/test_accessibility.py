"""Accessibility: axe's rules in every state, all widths, keyboard only, other languages and scripts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from semsearch.encoders.encoder import Encoder
from semsearch.search.engine import SearchEngine
from tests.browser.axe import violations
from tests.browser.conftest import serving
from tests.conftest import ANIMALS, build_index, write_jsonl

pytestmark = pytest.mark.browser

MORE_DOCUMENTS = [
    {"id": "熊猫", "title": "大熊猫", "text": "大熊猫生活在竹林里，主要吃竹子。"},
    {"id": "جمل", "title": "الجمل", "text": "الجمل حيوان يعيش في الصحراء ويصبر على العطش."},
    *({"id": f"n{n}", "title": f"Note {n}", "text": f"An animal note, number {n}", "kind": "note"} for n in range(20)),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, real_encoder: Encoder) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("accessibility")
    source = write_jsonl(folder / "a.jsonl", [*ANIMALS, *MORE_DOCUMENTS])
    build_index(folder / "a", source, model="all-MiniLM-L6-v2", title="Animals", facets=["kind"])
    with serving({"a": SearchEngine.open(folder / "a", encoder=real_encoder)}) as url:
        yield url


def _no_action(_page: Page) -> None: ...


def _adapt(page: Page) -> None:
    page.locator("[data-relevance='1']").nth(4).click()
    page.get_by_role("button", name="Adapt").click()
    expect(page.locator(".message")).to_contain_text("Learned from your marks")


STATES: dict[str, tuple[str, Callable[[Page], None]]] = {
    "start": ("/", _no_action),
    "results": ("/?query=animal", _no_action),
    "second page": ("/?query=animal&page=2", _no_action),
    "compared": ("/?query=animal&compare=1", _no_action),
    "marked and adapted": ("/?query=a+note&domain=states", _adapt),
    "filtered": ("/?query=animal&filter=kind+%3D+mammal&sort=-title", _no_action),
    "misspelled": ("/?query=animla", _no_action),
    "nothing found": ("/?query=zzzqqq&mode=keyword", _no_action),
    "no more": ("/?query=animal&page=50", _no_action),
    "refused": ("/?query=animal&filter=kind+%3D", _no_action),
    "no such index": ("/?query=animal&index=none", _no_action),
    "keys": ("/?query=animal", lambda page: page.get_by_role("button", name="Shortcuts and settings").click()),
    "document": ("/document?id=cat&query=animal", _no_action),
    "explanation": ("/explanation?id=cat&query=animal", _no_action),
    "domain": ("/learned?domain=states", _no_action),
    "map": ("/map?query=animal", _no_action),
    "status": ("/status", _no_action),
    "in Chinese": ("/?query=animal&lang=zh-Hans", _no_action),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_state_has_accessibility_violations(browser: Browser, address: str, scheme: str) -> None:
    context = browser.new_context(base_url=address, color_scheme="dark" if scheme == "dark" else "light")
    page = context.new_page()
    violations_by_state = {}
    for name, (path, act) in STATES.items():
        page.goto(path)
        act(page)
        if state_violations := violations(page):
            violations_by_state[name] = state_violations
    context.close()
    assert violations_by_state == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_sheet_of_filters_has_no_accessibility_violations(browser: Browser, address: str, scheme: str) -> None:
    size = ViewportSize(width=360, height=740)
    context = browser.new_context(base_url=address, viewport=size, color_scheme="dark" if scheme == "dark" else "light")
    page = context.new_page()
    page.goto("/?query=animal")
    page.get_by_role("button", name="Filters").click()
    expect(page.locator("#facets")).to_be_visible()
    assert violations(page) == []
    context.close()


@pytest.mark.parametrize("width", [360, 768, 1280, 2560])
def test_no_state_scrolls_sideways_at_any_width(browser: Browser, address: str, width: int) -> None:
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


def test_searching_marking_and_reading_work_with_the_keyboard_alone(page: Page) -> None:
    page.goto("/?domain=keys")
    page.keyboard.type("a note")
    expect(page).to_have_url(re.compile(r"query=a\+note&"))  # not the results of the letters before
    expect(page.locator(".hits li")).to_have_count(10)
    before = page.locator("[data-document]").nth(3).get_attribute("data-document")
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("r")
    expect(page.locator(".message")).to_have_text("1 marked for this query.")
    page.keyboard.press("a")
    expect(page.locator(".message")).to_contain_text("Learned from your marks (version 1).")
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
    expect(page.locator("#panel h1")).to_have_text("Map of all documents")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    shortcuts = page.get_by_role("dialog").locator("kbd").all_inner_texts()
    assert {"/", "?", "r", "n", "a", "c", "h", "m"} <= set(shortcuts)
    page.get_by_label("Use single letters as shortcuts").press("Space")
    page.keyboard.press("Escape")
    page.keyboard.press("m")
    expect(page.locator("#panel")).to_be_hidden()


def test_screen_readers_are_told_what_changes(page: Page) -> None:
    page.goto("/?query=animal&domain=announced")
    assert page.locator(".summary").get_attribute("role") == "status"
    page.locator("[data-relevance='0']").first.click()
    expect(page.get_by_role("status").filter(has_text="1 marked for this query.")).to_be_visible()
    expect(page.locator(".adapted-by")).to_have_attribute("role", "status")


def test_the_first_tab_stop_skips_to_the_results(page: Page) -> None:
    page.goto("/?query=animal")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the results")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_be_focused()


def test_chinese_and_arabic_are_found_and_shown_in_their_direction(page: Page) -> None:
    page.goto("/?query=竹子")
    expect(page.locator(".hits a.open").first).to_have_text("大熊猫")
    page.goto("/?query=حيوان يعيش في الصحراء")
    first = page.locator(".hits li").first
    expect(first.locator("a.open")).to_have_text("الجمل")
    direction = "element => getComputedStyle(element).direction"
    assert first.locator(".snippet").evaluate(direction) == "rtl"
    assert page.locator("#query").evaluate(direction) == "rtl"
    assert page.locator(".summary").evaluate(direction) == "ltr"


def test_the_interface_uses_the_browsers_language_until_another_is_chosen(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, locale="zh-CN")
    page = context.new_page()
    page.goto("/?query=竹子&domain=语言")
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
    expect(page.get_by_role("button", name="搜索", exact=True)).to_be_visible()
    page.locator("[data-relevance='1']").first.click()
    expect(page.locator(".message")).to_have_text("此查询已标记 1 条。")
    page.get_by_role("link", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.locator("#query")).to_have_value("竹子")
    expect(page).to_have_url(re.compile("domain="))
    page.fill("#query", "purrs")
    expect(page.locator(".hits a.open").first).to_have_text("Cat")
    expect(page).to_have_url(re.compile("lang=en"))
    context.close()


def test_reduced_motion_disables_transitions_and_animations(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, reduced_motion="reduce")
    page = context.new_page()
    page.goto("/?query=animal")
    count_animated = """() => [...document.querySelectorAll("*")].filter(element => {
        const style = getComputedStyle(element);
        return parseFloat(style.transitionDuration) > 0 || style.animationName !== "none";
    }).length"""
    assert page.evaluate(count_animated) == 0
    context.close()


def test_the_printed_page_has_results_and_no_controls(page: Page) -> None:
    page.goto("/?query=animal&domain=paper")
    page.emulate_media(media="print")
    for control in (".search", ".marks", ".controls", ".sort", ".foot", ".pages"):
        expect(page.locator(control).first).to_be_hidden()
    expect(page.locator(".hits .snippet").first).to_be_visible()
