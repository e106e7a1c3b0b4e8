"""What the browser's tests share: a Chromium, real servers, pages on which any complaint is a failure."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
    """The address of a server of these indexes; they are closed with it."""
    app = create_app(engines, keys=keys)
    server = create_server(app, host="127.0.0.1", port=0, threads=8)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
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


def _said(message: ConsoleMessage) -> str:
    """What the browser complains of; a page may say that something is not there, what it is made of must be."""
    missing = "404" in message.text and "/static/" in message.location["url"]
    return f"{message.location['url']} is missing" if missing else message.text


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A fresh page at the module's `address`, on which any complaint of the browser's is a failure."""
    context = browser.new_context(base_url=address)
    complaints: list[str] = []
    strangers: list[str] = []
    opened = context.new_page()
    opened.on("console", lambda message: complaints.append(_said(message)) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda asked: None if asked.url.startswith(address) else strangers.append(asked.url))
    yield opened
    context.close()
    expected = ("ERR_FAILED", "503", "401", "422", "404")
    assert [one for one in complaints if not any(words in one for words in expected)] == []
    assert strangers == []
