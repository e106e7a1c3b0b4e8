"""Takes pictures of the page in its states, to be looked at: `python scripts/screenshots.py URL FOLDER`.

Each state in light and dark and at three widths; the browser is Debian's Chromium. The server must take labels, and
learns a little from it: have it serve an index that nobody uses.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

SIZES = (
    ViewportSize(width=1600, height=1000),
    ViewportSize(width=900, height=1000),
    ViewportSize(width=360, height=740),
)
MARKED = 4
"""The result that is marked as relevant, counted from 0."""
Act = Callable[[Page], object]


def _nothing(_page: Page) -> None: ...


def _opened(page: Page) -> None:
    page.locator(".hits a.open").nth(1).click()
    page.locator("#panel a[data-into]").click()
    page.locator("#why h2").wait_for()


def _beside(key: str) -> Act:
    def act(page: Page) -> None:
        page.locator(f'[data-act-key="{key}"]').click()
        page.locator("#panel h1").wait_for()
        page.wait_for_timeout(800)

    return act


def _suggested(page: Page) -> None:
    page.locator("#query").fill("")
    page.locator("#query").press_sequentially("s")
    page.locator("#suggestions li").first.wait_for()


def _adapted(page: Page) -> None:
    page.locator("[data-gain='1']").nth(MARKED).click()
    page.locator("[aria-pressed='true']").first.wait_for()
    page.locator("[data-act='adapt']").click()
    page.locator("[data-sides]").wait_for()


def states(query: str) -> Iterator[tuple[str, str, Act]]:
    """Names of states, the addresses that show them, and what is to be done there."""
    asked = quote(query)
    yield "start", "/", _nothing
    yield "results", f"/?query={asked}", _nothing
    yield "next-page", f"/?query={asked}&page=2", _nothing
    yield "adapted", f"/?query={asked}&domain={{domain}}", _adapted
    yield "compared", f"/?query={asked}&domain={{domain}}&compare=1", _nothing
    yield "suggested", "/?domain={domain}", _suggested
    yield "learned", f"/?query={asked}&domain={{domain}}", _beside("h")
    yield "map", f"/?query={asked}&domain={{domain}}", _beside("m")
    yield "document", f"/?query={asked}&domain={{domain}}", _opened
    yield "keys", f"/?query={asked}", lambda page: page.locator("[data-keys]").click()
    yield "empty", "/?query=zzzqqq&mode=keyword", _nothing
    yield "no-more", f"/?query={asked}&page=100000", _nothing
    yield "refused", f"/?query={asked}&filter=kind+%3D", _nothing
    yield "error", f"/?query={asked}&index=no-such-index", _nothing
    yield "too-long", f"/?query={'long+' * 600}", _nothing
    yield "status", "/status", _nothing
    yield "chinese", f"/?query={asked}&lang=zh-Hans", _nothing


def take(browser: Browser, url: str, folder: Path, query: str) -> Iterator[Path]:
    """One picture for each state, width and colour scheme."""
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
    """Take them all and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="address of a running server")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--query", default="split a string at commas")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        for path in take(browser, options.url, options.folder, options.query):
            print(path)
        browser.close()


if __name__ == "__main__":
    main()
