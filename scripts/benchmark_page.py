"""Measures the page in Chromium: bytes of a first view, and frames while a user types, pages and opens a result.

    python scripts/benchmark_page.py http://127.0.0.1:8080

The browser's CPU is slowed down (`--throttle`), and no other program should run: frames are lost to whatever does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

FRAME_MS = 1000 / 60
AFTER_MS = 1_500
"""Time after each action in which frames still count as part of it."""
RECORD = """() => {
    window.frames_ms = [];
    window.tasks_ms = [];
    let last = performance.now();
    const step = (now) => {
        window.frames_ms.push(now - last);
        last = now;
        requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) window.tasks_ms.push(entry.duration);
    }).observe({ entryTypes: ["longtask"] });
}"""
TAKE = """() => {
    const taken = [window.frames_ms, window.tasks_ms];
    window.frames_ms = [];
    window.tasks_ms = [];
    return taken;
}"""


@dataclass(frozen=True, slots=True)
class Frames:
    """Times between frames during an action, in milliseconds."""

    median: float
    p95: float
    longest: float
    late: int
    """Frames that took longer than two of 60 a second."""
    count: int
    longest_task: float
    """The longest task of the page's script and layout; 0 if none took 50 ms."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="address of a server with the demo's index")
    parser.add_argument("--query", default="round a number up")
    parser.add_argument("--typed", default="sort a list of numbers", help="query that is typed letter by letter")
    parser.add_argument("--throttle", type=float, default=4, help="how many times slower the browser's CPU is")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    args = parser.parse_args()
    results = f"{args.url.rstrip('/')}/?query={quote(args.query)}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"])
        for name, address in (("start page", args.url), ("results", results)):
            size, requests = first_view(browser, address)
            print(f"first view, {name}: {size / 1024:.1f} KiB in {requests} requests")
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(results)
        page.wait_for_timeout(AFTER_MS)
        session = page.context.new_cdp_session(page)
        session.send("Emulation.setCPUThrottlingRate", {"rate": args.throttle})
        page.evaluate(RECORD)
        actions: dict[str, Callable[[], object]] = {
            "nothing": lambda: None,
            "typing": lambda: type_slowly(page, args.typed),
            "paging": lambda: page.locator(".pages a[rel=next]").click(),
            "opening": lambda: page.locator(".hits a.open").nth(1).click(),
            "scrolling": lambda: page.mouse.wheel(0, 2_000),
        }
        for name, act in actions.items():
            frames = measure(page, act)
            print(
                f"{name}: {frames.count} frames, median {frames.median:.1f} ms, 95th percentile {frames.p95:.1f},"
                f" longest {frames.longest:.0f}, {frames.late} late; longest task {frames.longest_task:.0f} ms"
            )
        browser.close()


def first_view(browser: Browser, address: str) -> tuple[int, int]:
    """Return the bytes and the number of the responses that a first visit to an address takes."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    session: CDPSession = page.context.new_cdp_session(page)
    sizes: list[int] = []
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: sizes.append(int(event["encodedDataLength"])))
    page.goto(address)
    page.wait_for_timeout(AFTER_MS)
    page.close()
    return sum(sizes), len(sizes)


def type_slowly(page: Page, text: str) -> None:
    page.fill("#query", "")
    page.locator("#query").press_sequentially(text, delay=90)


def measure(page: Page, act: Callable[[], object]) -> Frames:
    """Return the frames from an action until AFTER_MS after it."""
    page.evaluate(TAKE)
    act()
    page.wait_for_timeout(AFTER_MS)
    frames, tasks = page.evaluate(TAKE)
    return Frames(
        median=float(np.median(frames)),
        p95=float(np.percentile(frames, 95)),
        longest=max(frames),
        late=sum(frame > 2 * FRAME_MS + 1 for frame in frames),
        count=len(frames),
        longest_task=max(tasks, default=0.0),
    )


if __name__ == "__main__":
    main()
