"""Fixtures of the browser tests: Chromium, real servers, and pages that fail their test on a browser error."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from waitress.server import create_server

from semsearch.search.engine import SearchEngine
from semsearch.server.app import create_app
from semsearch.server.security import WriteKeys

QUIET = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@contextmanager
def serving(engines: dict[str, SearchEngine], keys: WriteKeys | None = None) -> Iterator[str]:
    """Serve the engines; yields the server's address and closes the engines at the end."""
    app = create_app(engines, keys=keys)
    server = create_server(app, host="127.0.0.1", port=0, threads=8)

    def run() -> None:
        # its loop may be waiting for the sockets that are closed at the end
        with suppress(OSError):
            server.run()

    threading.Thread(target=run, daemon=True).start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.close()
    app.extensions["semsearch"].close()
    for engine in engines.values():
        engine.close()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    path = shutil.which(os.environ.get("CHROMIUM", "chromium"))
    if path is None:
        pytest.fail("Chromium is missing: apt-get install chromium, or set CHROMIUM to its path")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield launched
        launched.close()


def _console_error(message: ConsoleMessage) -> str:
    """The text of a console error. A missing static file is worded so that it does not count as an expected 404."""
    is_missing_file = "404" in message.text and "/static/" in message.location["url"]
    return f"{message.location['url']} is missing" if is_missing_file else message.text


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A new page at the module's `address`. Browser errors and requests to other hosts fail the test."""
    context = browser.new_context(base_url=address)
    errors: list[str] = []
    foreign_urls: list[str] = []
    new_page = context.new_page()
    new_page.on("console", lambda message: errors.append(_console_error(message)) if message.type == "error" else None)
    new_page.on("pageerror", lambda error: errors.append(str(error)))
    new_page.on("request", lambda sent: None if sent.url.startswith(address) else foreign_urls.append(sent.url))
    yield new_page
    context.close()
    expected = ("ERR_FAILED", "503", "401", "422", "404", "409")
    assert [error for error in errors if not any(text in error for text in expected)] == []
    assert foreign_urls == []
