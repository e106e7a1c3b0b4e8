"""The real page on a real server with the real encoder, driven in Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from semsearch.encoders.encoder import Encoder
from semsearch.search.engine import SearchEngine
from tests.browser.conftest import serving
from tests.conftest import ANIMALS, build_index, write_jsonl

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, real_encoder: Encoder) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("page")
    more = [{"id": f"n{n}", "title": f"Note {n}", "text": f"An animal note {'x' * 300} {n}"} for n in range(20)]
    build_index(
        folder / "a",
        write_jsonl(folder / "a.jsonl", [*ANIMALS, *more]),
        model="all-MiniLM-L6-v2",
        title="Animals",
        facets=["kind"],
    )
    build_index(folder / "b", write_jsonl(folder / "b.jsonl", ANIMALS[:2]), model="all-MiniLM-L6-v2", title="Pets")
    with serving({name: SearchEngine.open(folder / name, encoder=real_encoder) for name in "ab"}) as url:
        yield url


def expect_first(page: Page, title: str) -> None:
    expect(page.locator(".hits a.open").first).to_have_text(title)


def expect_script(page: Page) -> None:
    """Wait until the page's script handles keys and sends the form; before, the browser does."""
    expect(page.locator("#query")).to_have_attribute("role", "combobox")


def test_typing_searches_and_the_address_can_be_shared(page: Page, browser: Browser) -> None:
    page.goto("/")
    expect(page.locator("#query")).to_be_focused()
    page.keyboard.type("kitten")
    expect_first(page, "Cat")
    expect(page).to_have_url(re.compile(r"/\?query=kitten&"))
    shared = browser.new_context().new_page()
    shared.goto(page.url)
    expect_first(shared, "Cat")
    expect(shared).to_have_title("kitten – Animals")
    shared.context.close()


def test_an_unfinished_word_is_completed_while_typing(page: Page) -> None:
    page.goto("/?mode=keyword")
    page.locator("#query").press_sequentially("a large bird of pre")
    expect(page.locator(".completed a")).to_have_text("a large bird of prey")
    expect_first(page, "Eagle")
    # the address, the links and the marks are about the query that was searched
    expect(page).to_have_url(re.compile(r"query=a\+large\+bird\+of\+prey&"))
    expect(page.locator("#query")).to_have_value("a large bird of pre")
    assert page.locator(".adapting").get_attribute("data-query") == "a large bird of prey"
    assert page.locator("#teach [name=query]").get_attribute("value") == "a large bird of prey"
    assert "query=a+large+bird+of+prey&" in str(page.locator(".hits a.open").first.get_attribute("href"))
    # Enter keeps what is shown
    page.keyboard.press("Enter")
    expect(page.locator("#query")).to_have_value("a large bird of prey")
    expect(page.locator(".completed")).to_have_count(0)
    expect_first(page, "Eagle")
    # a space ends a word
    page.fill("#query", "")
    page.locator("#query").press_sequentially("pre ")
    expect(page.locator("#answer")).to_contain_text("Nothing found")
    expect(page.locator(".completed")).to_have_count(0)


def test_the_meter_of_a_similarity_fills_the_height_of_its_track(page: Page) -> None:
    page.goto("/?query=kitten&mode=semantic")
    for hit in page.locator(".hits .score").all()[:3]:
        track, bar = hit.locator("svg").bounding_box(), hit.locator("rect").bounding_box()
        assert track is not None
        assert bar is not None
        assert (bar["y"], bar["height"]) == (track["y"], track["height"])
        assert bar["width"] / track["width"] == pytest.approx(float(hit.inner_text().split()[-1]), abs=0.02)


def test_back_and_forward_restore_query_and_results(page: Page) -> None:
    page.goto("/")
    for query, title in (("kitten", "Cat"), ("pollinates flowers", "Bee")):
        page.fill("#query", query)
        page.press("#query", "Enter")
        expect_first(page, title)
    page.go_back()
    expect_first(page, "Cat")
    expect(page.locator("#query")).to_have_value("kitten")
    page.go_forward()
    expect_first(page, "Bee")
    expect(page.locator("#query")).to_have_value("pollinates flowers")


def test_an_older_answer_never_overwrites_a_newer_one(page: Page) -> None:
    held: list[Route] = []
    page.route("**/?query=kitten*", lambda route: held.append(route))  # noqa: PLW0108 - a method takes no marks
    page.goto("/")
    expect_script(page)
    page.fill("#query", "kitten")
    page.press("#query", "Enter")
    page.fill("#query", "puppy")
    page.press("#query", "Enter")
    expect_first(page, "Dog")
    assert held  # one search, or two where the pause after typing ended before Enter
    for route in held:
        route.fulfill(content_type="text/html", body='<main id="answer">an older answer</main>')
    expect_first(page, "Dog")
    expect(page).to_have_url(re.compile("query=puppy"))


def test_arrow_keys_move_through_the_results_and_enter_opens_one(page: Page) -> None:
    page.goto("/?query=kitten")
    expect_script(page)
    page.locator("main").click(position={"x": 5, "y": 5})
    page.keyboard.press("/")
    expect(page.locator("#query")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".hits a.open").nth(0)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".hits a.open").nth(1)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#query")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#panel h1")).to_have_text("Cat")
    page.keyboard.press("Escape")
    expect(page.locator("#panel")).to_be_hidden()
    expect(page.locator(".hits a.open").first).to_be_focused()


def test_typing_twenty_queries_on_a_slow_network_ends_at_the_last_one_without_flicker(page: Page) -> None:
    page.goto("/?query=kitten")
    expect_first(page, "Cat")
    slow = page.context.new_cdp_session(page)
    slow.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 400, "downloadThroughput": 50_000, "uploadThroughput": 20_000},
    )
    page.evaluate(
        """() => {
            window.titles = [];
            window.emptied = 0;
            new MutationObserver(() => {
                const hit = document.querySelector("#answer .hits a.open");
                if (!hit) window.emptied += 1;
                else if (window.titles.at(-1) !== hit.textContent) window.titles.push(hit.textContent);
            }).observe(document.body, { childList: true, subtree: true });
        }"""
    )
    queries = ["puppy", "bird of prey", "river fish", "insect", "sea animal"]
    for number in range(20):
        page.fill("#query", queries[number % 5] if number < 19 else "pollinates flowers")
        page.wait_for_timeout(120 if number % 3 else 320)  # quicker and slower than the pause that starts a search
    expect_first(page, "Bee")
    expect(page).to_have_url(re.compile("query=pollinates"))
    page.wait_for_timeout(1500)
    expect_first(page, "Bee")
    # the results are never empty, and those of the last query stay
    assert page.evaluate("window.emptied") == 0
    assert page.evaluate("window.titles.at(-1)") == "Bee"


def test_results_are_sorted_by_a_field(page: Page) -> None:
    page.goto("/?query=animal")
    page.get_by_label("Sort by").select_option("-title")
    expect_first(page, "Whale")
    expect(page).to_have_url(re.compile("sort=-title"))
    expect(page.locator(".summary")).to_contain_text("the best 100, sorted")
    expect(page.get_by_label("Sort by")).to_be_focused()
    page.locator("a[rel=next]").click()
    expect(page.locator(".summary")).to_contain_text("Page 2")
    expect(page).to_have_url(re.compile("sort=-title"))
    page.get_by_label("Sort by").select_option("")
    expect(page).not_to_have_url(re.compile("sort="))


def test_past_searches_are_suggested_until_suggestions_are_switched_off(page: Page, address: str) -> None:
    label = {"domain": "past", "query": "honey from the comb", "document": "bee"}
    assert page.request.post("/api/labels", data=label).ok
    page.goto("/?domain=past")
    page.fill("#query", "buzzing insects")
    page.press("#query", "Enter")
    expect_first(page, "Bee")
    options = page.locator("#suggestions").get_by_role("option")
    page.fill("#query", "")
    page.locator("#query").press_sequentially("n")
    expect(options).to_have_text(["buzzing insects", "honey from the comb"])
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#query")).to_have_attribute("aria-activedescendant", "suggestion-1")
    page.keyboard.press("Enter")
    expect(page.locator("#query")).to_have_value("honey from the comb")
    expect(page).to_have_url(re.compile(r"query=honey\+from"))
    expect(page.locator("#suggestions")).to_be_hidden()
    page.fill("#query", "")
    page.locator("#query").press_sequentially("buzz")
    options.first.click()
    expect(page).to_have_url(re.compile(r"query=buzzing\+insects"))
    page.fill("#query", "")
    page.locator("#query").press_sequentially("ho")
    expect(options).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("#suggestions")).to_be_hidden()
    page.get_by_role("button", name="Shortcuts and settings").click()
    page.get_by_label("Suggest past searches").uncheck()
    page.get_by_role("button", name="Done").click()
    page.fill("#query", "")
    page.locator("#query").press_sequentially("hon")
    expect(page).to_have_url(re.compile("query=hon(ey)?&"))
    expect(page.locator("#suggestions")).to_be_hidden()
    assert page.evaluate("localStorage.getItem('semsearch past searches')") is None


def test_the_first_view_with_results_is_under_60_kb(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address)
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    sizes: list[float] = []
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto("/?query=animal", wait_until="networkidle")
    assert 2_000 < sum(sizes) < 60_000
    context.close()


def test_more_results_are_a_page_away(page: Page) -> None:
    page.goto("/?query=animal")
    page.locator("a[rel=next]").click()
    expect(page.locator(".summary")).to_contain_text("Page 2, from result 11")
    page.go_back()
    expect(page.locator(".summary")).to_contain_text("Results 1 to 10")


def test_another_index_can_be_chosen(page: Page) -> None:
    page.goto("/?query=makes+honey")
    expect_first(page, "Bee")
    page.select_option("#index", "b")
    expect(page.locator(".hits li")).to_have_count(2)
    expect(page).to_have_url(re.compile("index=b"))


def test_the_search_mode_can_be_chosen_and_stays_in_the_address(page: Page) -> None:
    page.goto("/?query=kitten")
    expect_first(page, "Cat")
    expect(page.locator("#mode option:checked")).to_have_text("meaning and words")
    page.select_option("#mode", label="words")
    expect(page.locator(".notice h1")).to_have_text("Nothing found")
    expect(page).to_have_url(re.compile("mode=keyword"))
    page.get_by_role("link", name="Search the meaning instead").click()
    expect_first(page, "Cat")
    expect(page).to_have_url(re.compile("mode=semantic"))
    expect(page.locator("#mode option:checked")).to_have_text("meaning")
    page.go_back()
    expect(page.locator(".notice h1")).to_have_text("Nothing found")
    expect(page.locator("#mode option:checked")).to_have_text("words")
    page.fill("#query", "purrs")
    expect_first(page, "Cat")


def test_without_a_script_it_is_a_form(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    page.fill("#query", "kitten")
    page.press("#query", "Enter")
    expect_first(page, "Cat")
    page.locator("a[rel=next]").click()
    expect(page.locator(".summary")).to_contain_text("Page 2")
    page.go_back()
    page.locator(".hits a.open").first.click()
    expect(page.locator("h1")).to_have_text("Cat")
    context.close()


def test_an_unreachable_server_is_reported_until_it_answers_again(page: Page) -> None:
    page.goto("/")
    expect_script(page)
    page.route("**/?query=*", lambda route: route.abort())
    page.fill("#query", "kitten")
    page.press("#query", "Enter")
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    page.unroute("**/?query=*")
    page.press("#query", "Enter")
    expect_first(page, "Cat")


def test_an_overloaded_server_is_reported(page: Page) -> None:
    refusal = '<main id="answer"><section role="alert">Service Unavailable</section></main>'
    page.goto("/")
    expect_script(page)
    page.route("**/?query=*", lambda route: route.fulfill(status=503, content_type="text/html", body=refusal))
    page.fill("#query", "kitten")
    page.press("#query", "Enter")
    expect(page.get_by_role("alert")).to_contain_text("Service Unavailable")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_narrow_screen_and_can_be_read(browser: Browser, address: str, scheme: str) -> None:
    dark = scheme == "dark"
    context = browser.new_context(
        base_url=address, viewport={"width": 360, "height": 700}, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    page.goto("/?query=animal+note")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    contrast = """selector => {
        const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
        const light = colour => numbers(colour).slice(0, 3).map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const element = document.querySelector(selector);
        let ground = element;
        while (ground && numbers(getComputedStyle(ground).backgroundColor)[3] === 0) ground = ground.parentElement;
        const pair = [light(getComputedStyle(element).color), light(getComputedStyle(ground).backgroundColor)];
        return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    }"""
    for selector in (".snippet", ".hits mark", ".hits h2 a", ".info", ".summary", ".search button"):
        assert page.evaluate(contrast, selector) >= 4.5, selector
    context.close()


def test_a_filter_narrows_results_and_stays_in_the_address(page: Page) -> None:
    page.goto("/?query=animal")
    page.get_by_role("link", name="mammal 3").click()
    expect(page.locator(".hits li")).to_have_count(3)
    expect(page).to_have_url(re.compile("filter=kind"))
    expect(page.locator("#filter")).to_have_value('kind = "mammal"')
    page.fill("#filter", "kind in (bird, fish)")
    page.press("#filter", "Enter")
    expect(page.locator(".hits li")).to_have_count(2)
    page.fill("#query", "swims")
    expect_first(page, "Salmon")
    expect(page.locator(".hits li")).to_have_count(2)
    page.get_by_role("link", name="Clear").click()
    expect(page.locator(".hits li")).to_have_count(10)
    page.go_back()
    expect(page.locator(".hits li")).to_have_count(2)


def test_a_chosen_filter_keeps_the_focus_so_that_another_can_be_chosen(page: Page) -> None:
    page.goto("/?query=animal")
    value = page.get_by_role("link", name="mammal 3")
    value.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".chip")).to_have_text(["kind: mammal ×"])
    expect(value).to_be_focused()
    expect(value).to_have_attribute("aria-current", "true")


def test_the_opened_result_is_marked_and_has_the_focus_again_when_it_is_closed(page: Page) -> None:
    page.goto("/")
    page.goto("/?query=animal")
    second = page.locator(".hits a.open").nth(1)
    for close in (lambda: page.keyboard.press("Escape"), page.go_back, page.get_by_role("button", name="Close").click):
        second.click()
        expect(page.locator("#panel h1")).to_be_visible()
        expect(page.locator(".hits [aria-current]")).to_have_count(1)
        expect(second).to_have_attribute("aria-current", "true")
        close()
        expect(page.locator("#panel")).to_be_hidden()
        expect(second).to_be_focused()
        expect(page.locator(".hits [aria-current]")).to_have_count(0)
    # several in turn are closed at once, and leave nothing in the history
    for title in ("Cat", "Dog"):
        page.locator(".hits").get_by_role("link", name=title).click()
        expect(page.locator("#panel h1")).to_have_text(title)
    page.keyboard.press("Escape")
    expect(page.locator("#panel")).to_be_hidden()
    expect(page).to_have_url(re.compile(r"/\?query=animal$"))
    page.go_back()
    expect(page).to_have_url(re.compile("/$"))


def test_closing_the_panel_ends_a_search_that_has_no_answer_yet(page: Page) -> None:
    page.goto("/?query=kitten")
    page.locator(".hits a.open").first.click()
    expect(page.locator("#panel h1")).to_have_text("Cat")
    held: list[Route] = []
    page.route("**/?query=puppy*", lambda route: held.append(route))  # noqa: PLW0108 - a method takes no marks
    page.fill("#query", "puppy")
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "true")
    page.go_back()
    expect(page.locator("#panel")).to_be_hidden()
    expect(page.locator("#query")).to_have_value("kitten")
    for route in held:
        route.fulfill(content_type="text/html", body='<main id="answer">a late answer</main>')
    expect(page.locator("#answer")).not_to_have_attribute("aria-busy", "true")
    expect_first(page, "Cat")
    expect(page).to_have_url(re.compile(r"/\?query=kitten$"))


def test_filters_are_chips_that_can_be_removed_one_by_one(page: Page) -> None:
    page.goto("/?query=animal")
    page.get_by_role("link", name="mammal 3").click()
    page.get_by_role("link", name=re.compile("^bird")).click()
    expect(page.locator("#filter")).to_have_value('kind in ("mammal", "bird")')
    expect(page.locator(".chip")).to_have_text(["kind: mammal ×", "kind: bird ×"])
    page.get_by_role("link", name="kind: mammal").click()
    expect(page.locator("#filter")).to_have_value('kind = "bird"')
    page.get_by_role("link", name="kind: bird").click()
    expect(page.locator(".chips")).to_have_count(0)
    expect(page.locator(".hits li")).to_have_count(10)


def test_filters_are_a_sheet_on_a_phone_with_the_first_result_in_view(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, viewport={"width": 360, "height": 740})
    page = context.new_page()
    page.goto("/?query=animal")
    expect(page.locator(".hits li").first).to_be_in_viewport(ratio=1)
    expect(page.locator("#facets")).to_be_hidden()
    page.get_by_role("button", name="Filters").click()
    page.get_by_role("link", name="mammal 3").click()
    expect(page.locator(".hits li")).to_have_count(3)
    expect(page.locator(".chip")).to_have_text(["kind: mammal ×"])
    context.close()


def test_opening_a_result_moves_neither_the_list_nor_the_search_box(browser: Browser, address: str) -> None:
    for width in (1280, 1920):
        context = browser.new_context(base_url=address, viewport={"width": width, "height": 900})
        page = context.new_page()
        page.goto("/?query=animal")
        boxes = [page.locator(part).bounding_box() for part in ("#query", ".hits li >> nth=1")]
        page.locator(".hits a.open").first.click()
        expect(page.locator("#panel h1")).to_be_visible()
        assert [page.locator(part).bounding_box() for part in ("#query", ".hits li >> nth=1")] == boxes
        context.close()


def test_a_long_query_is_not_cut(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto("/?query=which+animal+lives+in+the+cold+and+swims+")
    assert page.evaluate("(box => box.scrollWidth <= box.clientWidth)(document.querySelector('#query'))")
    context.close()


def test_another_query_begins_at_the_top(page: Page) -> None:
    page.set_viewport_size({"width": 800, "height": 400})
    page.goto("/?query=animal")
    page.evaluate("scrollTo(0, 600)")
    assert page.evaluate("scrollY") > 0
    page.fill("#query", "swims")
    expect_first(page, "Salmon")
    assert page.evaluate("scrollY") == 0


def test_the_error_in_an_invalid_filter_is_explained(page: Page) -> None:
    page.goto("/?query=animal")
    page.fill("#filter", "kind =")
    page.press("#filter", "Enter")
    expect(page.get_by_role("alert")).to_contain_text("cannot be read at its end")
    page.fill("#filter", "")
    page.press("#filter", "Enter")
    expect(page.locator(".hits li")).to_have_count(10)


def test_a_link_of_an_earlier_version_fills_the_form(page: Page) -> None:
    page.goto("/?q=kitten")
    expect(page.locator("#query")).to_have_value("kitten")
    page.fill("#query", "puppy")
    page.press("#query", "Enter")
    expect(page).to_have_url(re.compile(r"/\?query=puppy&?"))
    page.go_back()
    expect(page.locator("#query")).to_have_value("kitten")
