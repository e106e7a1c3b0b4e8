"""Takes screenshots of the page's states for review: `python scripts/screenshots.py URL FOLDER`.

Takes each state in light and dark mode and at three widths, with Debian's Chromium. With `--docs`, takes the pictures
of docs/page.md instead: FOLDER is docs/page, and the server's index is the demo's, with the domain `plain` adapted to
docs/example. The script labels a result and adapts to it, so the index should not be in use otherwise.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

SIZES = (
    ViewportSize(width=1920, height=1080),
    ViewportSize(width=1280, height=800),
    ViewportSize(width=360, height=740),
)
MARKED_POSITION = 4
"""Position, from 0, of the result that is marked as relevant."""
Action = Callable[[Page], object]


def _no_action(_page: Page) -> None: ...


def _open_document(page: Page) -> None:
    page.locator(".hits a.open").nth(1).click()
    page.locator("#panel a[data-into]").click()
    page.locator("#explanation h2").wait_for()


def _open_panel(shortcut: str) -> Action:
    def act(page: Page) -> None:
        page.locator(f'[data-shortcut="{shortcut}"]').click()
        page.locator("#panel h1").wait_for()
        page.wait_for_timeout(800)

    return act


def _open_filters(page: Page) -> None:
    button = page.locator(".open-facets")
    if button.is_visible():
        button.click()


def _show_suggestions(page: Page) -> None:
    page.locator("#query").fill("")
    page.locator("#query").press_sequentially("s")
    page.locator("#suggestions li").first.wait_for()


def _adapt(page: Page) -> None:
    page.locator("[data-relevance='1']").nth(MARKED_POSITION).click()
    page.locator("[aria-pressed='true']").first.wait_for()
    page.locator("[data-act='adapt']").click()
    page.locator("[data-sides]").wait_for()


def states(query: str) -> Iterator[tuple[str, str, Action]]:
    """Yield the name of each state, its address, and the action that leads to it from there."""
    quoted = quote(query)
    yield "start", "/", _no_action
    yield "results", f"/?query={quoted}", _no_action
    yield "filtered", f"/?query={quoted}&filter=kind+in+(method,+function)", _open_filters
    yield "weak", "/?query=horoscope+for+libra", _no_action
    yield "misspelled", "/?mode=keyword&query=sepparator", _no_action
    yield "next-page", f"/?query={quoted}&page=2", _no_action
    yield "adapted", f"/?query={quoted}&domain={{domain}}", _adapt
    yield "compared", f"/?query={quoted}&domain={{domain}}&compare=1", _no_action
    yield "suggested", "/?domain={domain}", _show_suggestions
    yield "domain", f"/?query={quoted}&domain={{domain}}", _open_panel("h")
    yield "map", f"/?query={quoted}&domain={{domain}}", _open_panel("m")
    yield "document", f"/?query={quoted}&domain={{domain}}", _open_document
    yield "keys", f"/?query={quoted}", lambda page: page.locator("[data-keys]").click()
    yield "empty", "/?query=zzzqqq&mode=keyword", _no_action
    yield "no-more", f"/?query={quoted}&page=100000", _no_action
    yield "refused", f"/?query={quoted}&filter=kind+%3D", _no_action
    yield "error", f"/?query={quoted}&index=no-such-index", _no_action
    yield "too-long", f"/?query={'long+' * 600}", _no_action
    yield "status", "/status", _no_action
    yield "chinese", f"/?query={quoted}&lang=zh-Hans", _no_action


def _adapt_to_upper(page: Page) -> None:
    page.locator("[data-document='str.upper'] [data-relevance='1']").click()
    page.locator("[aria-pressed='true']").first.wait_for()
    page.locator("[data-act='adapt']").click()
    page.locator("[data-sides]").wait_for()


def take_docs(browser: Browser, url: str, folder: Path) -> Iterator[Path]:
    """Take the pictures of docs/page.md; yields the paths."""
    narrow, wide = ViewportSize(width=1280, height=800), ViewportSize(width=1500, height=850)
    example = f"/?query={quote('put things in alphabetical order')}&domain=plain"
    pictures: tuple[tuple[str, str, ViewportSize, Literal["light", "dark"], Action], ...] = (
        ("before-and-now", f"/?query={quote('turn text into capitals')}&domain=team", narrow, "light", _adapt_to_upper),
        ("reading", example, wide, "light", _open_document),
        ("map", example, wide, "dark", _open_panel("m")),
    )
    for name, address, size, scheme, act in pictures:
        context = browser.new_context(viewport=size, color_scheme=scheme)
        page = context.new_page()
        page.goto(url.rstrip("/") + address)
        act(page)
        page.wait_for_timeout(300)
        path = folder / f"{name}.png"
        page.screenshot(path=path)
        yield path
        context.close()


def take(browser: Browser, url: str, folder: Path, query: str) -> Iterator[Path]:
    """Take a screenshot of each state, width and colour scheme; yields the paths."""
    for scheme in ("light", "dark"):
        for size in SIZES:
            context = browser.new_context(viewport=size, color_scheme="dark" if scheme == "dark" else "light")
            page = context.new_page()
            domain = f"pictures-{scheme}-{size['width']}"
            for name, address, act in states(query):
                page.goto(url.rstrip("/") + address.replace("{domain}", domain))
                act(page)
                page.wait_for_timeout(300)
                path = folder / f"{name}-{size['width']}-{scheme}.png"
                page.screenshot(path=path)
                yield path
            context.close()


def main() -> None:
    """Take all screenshots and print their paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="address of a running server")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--query", default="split a string at commas")
    parser.add_argument("--docs", action="store_true", help="take the pictures of docs/page.md")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        if options.docs:
            paths = take_docs(browser, options.url, options.folder)
        else:
            paths = take(browser, options.url, options.folder, options.query)
        for path in paths:
            print(path)
        browser.close()


if __name__ == "__main__":
    main()
