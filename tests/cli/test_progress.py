"""Progress where no bar can be drawn."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import BarColumn

from semsearch.cli import progress
from semsearch.cli.progress import ReportingProgress


def run(console: Console) -> None:
    with ReportingProgress(BarColumn(), console=console, transient=True) as bar:
        task = bar.add_task("reading", total=None, counts="")
        bar.update(task, counts="7 documents")
        bar.remove_task(task)
        task = bar.add_task("encoding", total=40, counts="")
        bar.update(task, completed=10, counts="1 of [4] passages")
        bar.update(task, completed=40, counts="")


def test_a_redirected_output_has_a_line_for_each_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "REPORT_SECONDS", 0.0)
    file = io.StringIO()
    run(Console(file=file))
    lines = [line.rpartition(" · ")[0] for line in file.getvalue().splitlines() if line]
    assert lines == ["reading · 7 documents", "encoding · 25% · 1 of [4] passages", "encoding · 100% · 40 of 40"]


def test_a_line_is_printed_every_few_seconds_only() -> None:
    file = io.StringIO()
    run(Console(file=file))
    assert file.getvalue().strip() == ""


def test_a_terminal_has_the_bar_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "REPORT_SECONDS", 0.0)
    file = io.StringIO()
    run(Console(file=file, force_terminal=True))
    assert "7 documents" not in file.getvalue()
