"""`semsearch tune`: choose the search mode and the learners of an index by cross-validation on labelled queries."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from semsearch.cli.domains import Domain, Index, QueriesFile, Strict, open_registry, read_labels, usable_entries
from semsearch.cli.options import Device, Threads, WeightsFile, err, out
from semsearch.cli.progress import ReportingProgress
from semsearch.errors import IndexFolderError, RecipeError
from semsearch.types import DEFAULT_DOMAIN

# torch takes seconds to import: each command imports what it needs, so that --help answers at once
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

    from semsearch.domains.judgments import JudgedQuery
    from semsearch.domains.registry import DomainRegistry
    from semsearch.domains.tuning import Budget, Trial, TuningResult
    from semsearch.types import Click, Label


def _number(value: float) -> float:
    """Return the value of an option. Raises typer.BadParameter for NaN, which no limit excludes."""
    if math.isnan(value):
        raise typer.BadParameter("nan is not a number")
    return value


SPEED_PERIOD_S = 3600.0
"""Past seconds that the time left is estimated from."""
SHOWN = 12
"""Number of best settings to print and record, in addition to the present one, the chosen one and the identity."""


def tune(
    index: Index,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Labels to use in addition to those in the index's log: a folder with queries.jsonl and qrels.tsv, or"
            " any file that `semsearch labels import` reads. They are not added to the log.",
            show_default=False,
        ),
    ] = None,
    queries: QueriesFile = None,
    strict: Strict = False,
    domain: Domain = DEFAULT_DOMAIN,
    recipe: Annotated[
        Path | None,
        typer.Option(help="Recipe to write the choice to. \\[default: INDEX.toml, if it exists]", show_default=False),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(
            "--budget",
            min=1,
            callback=_number,
            help="Seconds to try settings for. At the end of this time, or at Ctrl-C, the best of those tried so far is"
            " reported.",
        ),
    ] = 600,
    max_ms: Annotated[
        float,
        typer.Option(
            min=0,
            callback=_number,
            help="Longest median time of a search on this machine, in milliseconds, without encoding.",
        ),
    ] = 20.0,
    max_kib: Annotated[
        float, typer.Option(min=0, callback=_number, help="Largest state of a domain in memory, in KiB.")
    ] = 512,
    weights: WeightsFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the choice, and change nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object with all settings tried.")] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Choose the search mode and the learners of an index by cross-validation on labelled queries.

    Tries semantic, keyword and hybrid search at several weights, with no learner, each learner and all learners. If a
    setting within --max-ms and --max-kib is significantly better than the present one, it is written to the index and
    its recipe, together with the table of results. A running server uses it within seconds.

    If the time of --budget ends first, the choice is among the settings tried so far. Ctrl-C ends the trials too: the
    choice is then printed and nothing is written; a second Ctrl-C ends the command at once.

    Example: semsearch tune index/python --labels docs/example
    """
    recipe_path = _find_recipe(index, recipe)
    if not dry_run:
        _check_writable(index, recipe_path)
    reading = read_labels(labels, domain=domain, queries=queries)
    with open_registry(index, weights, device=device, threads=threads) as registry:
        entries = usable_entries(reading, registry.engine.corpus, registry.log, strict=strict)
        judged = _judged_queries(registry, entries)
        from semsearch.domains.tuning import Budget

        budget = Budget(search_ms=max_ms, domain_kib=max_kib)
        with _stop_at_interrupt() as interrupted:
            result = _try_settings(registry, weights, judged, budget, _Clock(seconds, interrupted))
    if as_json:
        sys.stdout.write(json.dumps(result.as_json()) + "\n")
    else:
        out.print(_table(result, budget))
        out.print(_summary(result), soft_wrap=True, markup=False)
    if interrupted.is_set():
        err.print("interrupted: nothing was written", soft_wrap=True)
        raise typer.Exit(130)
    if dry_run or result.chosen is result.trials[0]:
        return
    _write(index, recipe_path, result, budget)


class _Clock:
    """When to stop: at the end of the time allowed, or once `interrupted` is set."""

    def __init__(self, seconds: float, interrupted: threading.Event) -> None:
        self._deadline = monotonic() + seconds
        self.interrupted = interrupted

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return max(0.0, self._deadline - monotonic())

    def should_stop(self) -> bool:
        """Whether to try no further setting."""
        return self.interrupted.is_set() or not self.left_s


class _TimeLeft(ProgressColumn):
    """The time until all settings are tried, at the present rate, or until the end of the time allowed."""

    def __init__(self, clock: _Clock) -> None:
        super().__init__()
        self._clock = clock

    def render(self, task: Task) -> Text:
        """Return the time left."""
        if self._clock.interrupted.is_set():
            return Text("stopping")
        left_s = min(self._clock.left_s, math.inf if task.time_remaining is None else task.time_remaining)
        return Text("" if math.isinf(left_s) else f"{timedelta(seconds=math.ceil(left_s))} left")


@contextmanager
def _stop_at_interrupt() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C sets; the second raises KeyboardInterrupt."""
    interrupted = threading.Event()

    def handle(_signal: int, _frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)


def _check_writable(index: Path, recipe: Path | None) -> None:
    """Raise an error if the choice could not be written, so that no time is spent on it."""
    from semsearch.storage.generations import current

    current(index)
    if not os.access(index, os.W_OK):
        raise IndexFolderError(f"{index} cannot be written: change its permissions, or use --dry-run")
    if recipe is not None and not os.access(recipe, os.W_OK):
        raise RecipeError(f"{recipe} cannot be written: change its permissions, or use --dry-run")


def _judged_queries(registry: DomainRegistry, entries: Sequence[Label | Click]) -> Mapping[str, Sequence[JudgedQuery]]:
    """Return the judged queries of each domain, from the log and from `entries`."""
    names = {*registry.log.counts(), *(entry.domain for entry in entries)}
    return {
        name: registry.judged_queries(name, [entry for entry in entries if entry.domain == name])
        for name in sorted(names)
    }


def _find_recipe(index: Path, recipe: Path | None) -> Path | None:
    """Return the recipe to write to, None if the index has none. Raises RecipeError for a file that is not a recipe."""
    from semsearch.ingest.recipe import Recipe

    path = recipe or index.with_name(f"{index.resolve().name}.toml")
    if recipe is None and not path.exists():
        return None
    Recipe.read(path)
    return path


def _try_settings(
    registry: DomainRegistry,
    weights: Path | None,
    judged: Mapping[str, Sequence[JudgedQuery]],
    budget: Budget,
    clock: _Clock,
) -> TuningResult:
    """Try the candidate settings until the clock says to stop, with a progress bar."""
    from semsearch.adapters.weights import DEFAULT_WEIGHTS, Weights
    from semsearch.domains.tuning import TuningResult
    from semsearch.domains.tuning import tune as run_trials
    from semsearch.errors import WeightsError

    learned: Weights | None = Weights.open(weights or DEFAULT_WEIGHTS)
    try:
        assert learned is not None
        learned.check_dimension(registry.engine.adapter.basis.dimension)
    except WeightsError as error:
        err.print(f"[yellow]without learners[/yellow]: {escape(str(error))}", soft_wrap=True)
        learned = None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _TimeLeft(clock))
    with ReportingProgress(*columns, console=err, transient=True, speed_estimate_period=SPEED_PERIOD_S) as bar:
        task = bar.add_task("trying settings", total=None)
        for event in run_trials(registry.engine, learned, judged, budget, should_stop=clock.should_stop):
            if isinstance(event, TuningResult):
                return event
            bar.update(task, completed=event.done, total=event.total)
    raise AssertionError("the last event of tuning is its result")


def _rows(result: TuningResult, budget: Budget) -> list[tuple[str, ...]]:
    """Return the present setting, the chosen one, the identity (dense, no learner) and the best ones, best first."""
    from semsearch.types import Mode

    def is_identity(trial: Trial) -> bool:
        return trial.setting.search.mode is Mode.SEMANTIC and trial.setting.adaptation.learners == ()

    present = result.trials[0]
    by_ndcg = sorted(result.trials, key=lambda trial: -trial.values.mean())
    shown = [
        trial
        for rank, trial in enumerate(by_ndcg)
        if rank < SHOWN or is_identity(trial) or trial is present or trial is result.chosen
    ]
    return [
        (
            str(trial.setting.search),
            str(trial.setting.adaptation),
            f"{trial.values.mean():.4f}",
            f"{(trial.values - present.values).mean():+.4f}",
            f"{trial.search_ms:.2f}",
            f"{trial.domain_kib:.0f}",
            " ".join(
                remark
                for remark, applies in (
                    ("chosen", trial is result.chosen),
                    ("present", trial is present),
                    ("identity", is_identity(trial)),
                    ("over budget", not trial.within(budget)),
                )
                if applies
            ),
        )
        for trial in shown
    ]


HEADINGS = ("search", "learners", "nDCG@10", "change", "ms", "KiB", "")


def _table(result: TuningResult, budget: Budget) -> Table:
    table = Table(
        title=Text(
            f"{result.queries} judged queries of {result.domains} domains; budget {budget.search_ms:g} ms a search,"
            f" {budget.domain_kib:g} KiB a domain; best {min(SHOWN, len(result.trials))} of {len(result.trials)}"
            f" settings{_untried(result)}"
        ),
        title_justify="left",
    )
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in HEADINGS[2:6] else "left", no_wrap=True)
    for row in _rows(result, budget):
        table.add_row(*map(Text, row), style="bold" if "chosen" in row[-1] else "")
    return table


def _untried(result: TuningResult) -> str:
    return f"; stopped before {result.untried} others" if result.untried else ""


def _summary(result: TuningResult) -> str:
    if result.chosen is result.trials[0]:
        return "The present setting stays: no other is significantly better."
    setting = result.chosen.setting
    return (
        f"Chosen: {setting.search}; learners: {setting.adaptation}. On queries that the choice did not use, this"
        f" procedure changes nDCG@10 by {result.improvement:+.4f} (95% interval {result.low:+.4f} to"
        f" {result.high:+.4f})."
    )


def _write(index: Path, recipe: Path | None, result: TuningResult, budget: Budget) -> None:
    """Write the chosen setting to the index, and to its recipe together with the table of results."""
    from semsearch.ingest.recipe import write_options
    from semsearch.storage.generations import republish

    setting = result.chosen.setting
    options = {"search": setting.search, "adaptation": setting.adaptation}
    dumped = {name: part.model_dump(mode="json", exclude_none=True) for name, part in options.items()}
    republish(
        index,
        lambda manifest: manifest.model_copy(
            update={**options, "tuned": result.as_json(), "recipe": {**manifest.recipe, **dumped}}
        ),
    )
    if recipe is None:
        err.print(
            f"written to {escape(str(index))}, which has no recipe next to it (name one with --recipe)", soft_wrap=True
        )
        return
    rows = [HEADINGS, *_rows(result, budget)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [
        f"chosen by semsearch tune on {result.queries} judged queries; budget {budget.search_ms:g} ms a search,"
        f" {budget.domain_kib:g} KiB a domain{_untried(result)}",
        *("  ".join(part.ljust(width) for part, width in zip(row, widths, strict=True)).rstrip() for row in rows),
        _summary(result),
    ]
    try:
        write_options(recipe, setting.search, setting.adaptation, comments=lines)
    except RecipeError as error:
        raise RecipeError(f"the setting was written to {index}, but {error}") from error
    err.print(f"written to {escape(str(index))} and {escape(str(recipe))}", soft_wrap=True)
