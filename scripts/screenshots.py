"""Takes pictures of the page in its states, to be looked at: `python scripts/screenshots.py URL FOLDER`.

The states are results, empty, error, document, narrow and dark; the browser is Debian's Chromium.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, ViewportSize, sync_playwright

WIDE, NARROW = ViewportSize(width=1600, height=1000), ViewportSize(width=360, height=740)


def states(query: str) -> Iterator[tuple[str, str]]:
    """Names of states and the addresses that show them."""
    asked = quote(query)
    yield "start", "/"
    yield "results", f"/?q={asked}"
    yield "next-page", f"/?q={asked}&page=2"
    yield "empty", f"/?q={asked}&page=100000"
    yield "error", f"/?q={asked}&index=no-such-index"
    yield "too-long", f"/?q={'long+' * 600}"


def take(browser: Browser, url: str, folder: Path, query: str) -> Iterator[Path]:
    """One picture for each state, width and colour scheme."""
    for scheme in ("light", "dark"):
        for size in (WIDE, NARROW):
            context = browser.new_context(viewport=size, color_scheme="dark" if scheme == "dark" else "light")
            page = context.new_page()
            for name, address in states(query):
                page.goto(url.rstrip("/") + address)
                yield _picture(page.screenshot(), folder / f"{name}-{size['width']}-{scheme}.png")
            page.goto(f"{url.rstrip('/')}/?q={quote(query)}")
            page.locator(".hits a.open").first.click()
            page.wait_for_url("**/document**")
            yield _picture(page.screenshot(), folder / f"document-{size['width']}-{scheme}.png")
            context.close()


def _picture(content: bytes, path: Path) -> Path:
    path.write_bytes(content)
    return path


def main() -> None:
    """Take them all and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__)
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
