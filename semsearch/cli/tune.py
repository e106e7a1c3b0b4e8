"""`semsearch tune`: an index searched, and its domains taught, in the way that labelled queries say is best."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from semsearch.cli.domains import Domain, Index, check, labelled, opened
from semsearch.cli.options import Device, Threads, WeightsFile, err, out
from semsearch.errors import RecipeError
from semsearch.types import DEFAULT_DOMAIN

# torch takes seconds to import: every command imports what it needs, so that --help answers at once
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from semsearch.domains.judgments import JudgedQuery
    from semsearch.domains.registry import DomainRegistry
    from semsearch.domains.tuning import Budget, Trial, TuningResult
    from semsearch.types import Click, Label

SHOWN = 12
"""Settings that are shown, and written down, beside the present one, the chosen one and the identity: the best."""


def tune(
    index: Index,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Judged queries beside those of the index's log: a folder with queries.jsonl and qrels.tsv, or a file"
            " of JSON lines. They are not kept.",
            show_default=False,
        ),
    ] = None,
    domain: Domain = DEFAULT_DOMAIN,
    recipe: Annotated[
        Path | None,
        typer.Option(help="Recipe to write the choice into. \\[default: INDEX.toml, if it exists]", show_default=False),
    ] = None,
    max_ms: Annotated[
        float, typer.Option(min=0, help="Budget: median milliseconds of a search here, without encoding the query.")
    ] = 20.0,
    max_kib: Annotated[float, typer.Option(min=0, help="Budget: KiB of memory that a domain's state may take.")] = 512,
    weights: WeightsFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be chosen, and change nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object with every setting tried.")] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Choose how an index is searched and how its domains learn, by cross-validation on judged queries.

    Tried are search by meaning, by words and by both at several weights, each with no learner, any learner, and every
    single one. What surely helps more than the present setting, within the budget, is written into the index and its
    recipe with the table that justified it; a server takes it up when it is started again.

    Example: semsearch tune index/python --labels docs/example
    """
    more = labelled(labels, domain=domain)
    with opened(index, weights, device=device, threads=threads) as found:
        check(more, found.engine.corpus)
        judged = _judged(found, more)
        place = _recipe(index, recipe)
        from semsearch.domains.tuning import Budget

        budget = Budget(search_ms=max_ms, domain_kib=max_kib)
        tuned = _tuned(found, weights, judged, budget)
    if as_json:
        sys.stdout.write(json.dumps(tuned.as_json()) + "\n")
    else:
        out.print(_table(tuned, budget))
        out.print(_words(tuned), soft_wrap=True, markup=False)
    if dry_run or tuned.chosen is tuned.trials[0]:
        return
    _write(index, place, tuned, budget)


def _judged(found: DomainRegistry, more: Sequence[Label | Click]) -> Mapping[str, Sequence[JudgedQuery]]:
    names = {*found.log.counts(), *(entry.domain for entry in more)}
    return {
        name: found.judged_queries(name, [entry for entry in more if entry.domain == name]) for name in sorted(names)
    }


def _recipe(index: Path, recipe: Path | None) -> Path | None:
    """The recipe to write into. Raises RecipeError, before any work is done, where it is none."""
    from semsearch.ingest.recipe import Recipe

    place = recipe or index.with_name(f"{index.resolve().name}.toml")
    if recipe is None and not place.exists():
        return None
    Recipe.read(place)
    return place


def _tuned(
    found: DomainRegistry, weights: Path | None, judged: Mapping[str, Sequence[JudgedQuery]], budget: Budget
) -> TuningResult:
    from semsearch.adapters.weights import DEFAULT_WEIGHTS, Weights
    from semsearch.domains.tuning import TuningResult as Result
    from semsearch.domains.tuning import tune as tried
    from semsearch.errors import WeightsError

    learned: Weights | None = Weights.open(weights or DEFAULT_WEIGHTS)
    try:
        assert learned is not None
        learned.check_basis(found.engine.adapter.basis)
    except WeightsError as error:
        err.print(f"[yellow]without learners[/yellow]: {error}", soft_wrap=True)
        learned = None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("trying settings", total=None)
        for event in tried(found.engine, learned, judged, budget):
            if isinstance(event, Result):
                return event
            bar.update(task, completed=event.done, total=event.of)
    raise AssertionError("tuning ends with what it chose")


def _rows(tuned: TuningResult, budget: Budget) -> list[tuple[str, ...]]:
    """The present setting, the chosen one, the one that changes nothing, and the best, by what they brought."""
    from semsearch.types import Mode

    def identity(trial: Trial) -> bool:
        return trial.setting.search.mode is Mode.SEMANTIC and trial.setting.adaptation.learners == ()

    best = sorted(tuned.trials, key=lambda trial: -trial.values.mean())
    kept = (tuned.trials[0], tuned.chosen)
    shown = [
        trial
        for place, trial in enumerate(best)
        if place < SHOWN or identity(trial) or any(trial is one for one in kept)
    ]
    return [
        (
            str(trial.setting.search),
            str(trial.setting.adaptation),
            f"{trial.values.mean():.4f}",
            f"{(trial.values - tuned.trials[0].values).mean():+.4f}",
            f"{trial.search_ms:.2f}",
            f"{trial.domain_kib:.0f}",
            " ".join(
                word
                for word, true in (
                    ("chosen", trial is tuned.chosen),
                    ("present", trial is tuned.trials[0]),
                    ("identity", identity(trial)),
                    ("over budget", not trial.within(budget)),
                )
                if true
            ),
        )
        for trial in shown
    ]


HEADINGS = ("search", "learners", "nDCG@10", "change", "ms", "KiB", "")


def _table(tuned: TuningResult, budget: Budget) -> Table:
    table = Table(
        title=Text(
            f"{tuned.queries} judged queries of {tuned.domains} domains; budget {budget.search_ms:g} ms a search,"
            f" {budget.domain_kib:g} KiB a domain; best {SHOWN} of {len(tuned.trials)} settings"
        ),
        title_justify="left",
    )
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in HEADINGS[2:6] else "left", no_wrap=True)
    for row in _rows(tuned, budget):
        table.add_row(*map(Text, row), style="bold" if "chosen" in row[-1] else "")
    return table


def _words(tuned: TuningResult) -> str:
    if tuned.chosen is tuned.trials[0]:
        return "The present setting stays: nothing else would surely help."
    setting = tuned.chosen.setting
    return (
        f"Chosen: {setting.search}; learners: {setting.adaptation}. Choosing like this brought {tuned.improvement:+.4f}"
        f" nDCG@10 ({tuned.low:+.4f} to {tuned.high:+.4f}) on queries that were not chosen by."
    )


def _write(index: Path, recipe: Path | None, tuned: TuningResult, budget: Budget) -> None:
    from semsearch.ingest.recipe import write_options
    from semsearch.storage.generations import republish

    setting = tuned.chosen.setting
    options = {"search": setting.search, "adaptation": setting.adaptation}
    dumped = {name: part.model_dump(mode="json", exclude_none=True) for name, part in options.items()}
    republish(
        index,
        lambda manifest: manifest.model_copy(
            update={**options, "tuned": tuned.as_json(), "recipe": {**manifest.recipe, **dumped}}
        ),
    )
    if recipe is None:
        err.print(f"written into {index}, which has no recipe beside it (--recipe names one)", soft_wrap=True)
        return
    rows = [HEADINGS, *_rows(tuned, budget)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [
        f"chosen by semsearch tune on {tuned.queries} judged queries; budget {budget.search_ms:g} ms a search,"
        f" {budget.domain_kib:g} KiB a domain",
        *("  ".join(part.ljust(width) for part, width in zip(row, widths, strict=True)).rstrip() for row in rows),
        _words(tuned),
    ]
    try:
        write_options(recipe, setting.search, setting.adaptation, why=lines)
    except RecipeError as error:
        raise RecipeError(f"{index} is searched like this from now on, but {error}") from error
    err.print(f"written into {index} and {recipe}", soft_wrap=True)
