"""Accessibility violations of a page, found by axe: WCAG 2.2 A and AA, and axe's best practices."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

_AXE = Axe()
_OPTIONS = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def violations(page: Page) -> list[str]:
    """Each violated rule, with the element that violates it."""
    return [
        f"{rule['id']}: {node['html'][:160]} ({node['failureSummary'][:300]})"
        for rule in _AXE.run(page, options=_OPTIONS).response["violations"]
        for node in rule["nodes"]
    ]
