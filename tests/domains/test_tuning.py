"""Tuning: a better setting is chosen, luck is not taken for improvement, and the choice is written to the index."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.progress import Progress as Bar

from semsearch.cli.tune import SPEED_PERIOD_S, _Clock, _TimeLeft
from semsearch.domains.judgments import JudgedQuery
from semsearch.domains.model_selection import reality_check
from semsearch.domains.tuning import FOLDS, Budget, Progress, TuningResult, tune
from semsearch.encoders.encoder import Encoder
from semsearch.errors import LabelError
from semsearch.ingest.recipe import Recipe
from semsearch.search.engine import SearchEngine
from semsearch.storage.generations import read_manifest
from semsearch.types import Mode, Query
from tests.conftest import Command, build_index, hits_of, write_jsonl

ROOMY = Budget(search_ms=1e6, domain_kib=1e6)
NAMES = [
    f"{first}{second}" for first in ["mo", "ka", "ri", "tu", "ve", "zo"] for second in ["lan", "nor", "pim", "sek"]
]
RECIPE = """# what the shop sells
title = "Shop"
search.mode = "semantic"

[encoder]
model = "{model}"

[[sources]]
path = "shop.jsonl"
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_encoder: Encoder) -> Path:
    """An index with semantic search, of documents that keyword search can tell apart and the tiny encoder cannot."""
    folder = tmp_path_factory.mktemp("shop")
    filler = "a thing for every day of the year that you and we may like to have in this or that place"
    write_jsonl(folder / "shop.jsonl", ({"id": name, "text": f"{filler} {name}"} for name in NAMES))
    (folder / "shop.toml").write_text(RECIPE.format(model=tiny_model))
    build_index(folder / "shop", folder / "shop.jsonl", model=tiny_model, search={"mode": "semantic"})
    return folder


@pytest.fixture
def copy(shop: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shop, tmp_path / "copy")) / "shop"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    folder = tmp_path / "labels"
    folder.mkdir()
    write_jsonl(folder / "queries.jsonl", ({"_id": n, "text": query_for(name)} for n, name in enumerate(NAMES)))
    (folder / "qrels.tsv").write_text("".join(f"{n}\t{name}\t1\n" for n, name in enumerate(NAMES)))
    return folder


@pytest.fixture
def engine(shop: Path, tiny_encoder: Encoder) -> Iterator[SearchEngine]:
    opened = SearchEngine.open(shop / "shop", encoder=tiny_encoder, threads=1)
    yield opened
    opened.close()


def query_for(name: str) -> str:
    return f"which of the things that you have in this place is {name}"


def tuned(engine: SearchEngine, judged: dict[str, list[JudgedQuery]], budget: Budget = ROOMY) -> TuningResult:
    *progress, last = tune(engine, None, judged, budget)
    assert all(isinstance(event, Progress) for event in progress)
    assert isinstance(last, TuningResult)
    return last


def test_a_better_setting_is_chosen_and_its_improvement_is_reported(engine: SearchEngine) -> None:
    result = tuned(engine, {"d": [JudgedQuery(query_for(name), {name: 1.0}) for name in NAMES]})
    assert result.trials[0].setting.search.mode is Mode.SEMANTIC
    assert result.chosen.setting.search.mode is not Mode.SEMANTIC
    assert result.chosen.values.mean() > 0.95 > result.trials[0].values.mean() + 0.1
    assert result.low > 0.05
    assert (result.queries, result.domains) == (len(NAMES), 1)
    assert {trial.setting.search.mode for trial in result.trials} == set(Mode)
    assert all(trial.search_ms > 0 for trial in result.trials)
    assert engine.manifest.search.mode is Mode.SEMANTIC


def test_random_labels_keep_the_present_setting(engine: SearchEngine) -> None:
    rng = np.random.default_rng(0)
    judged = [JudgedQuery(f"query {n}", {str(rng.choice(NAMES)): 1.0}) for n in range(20)]
    result = tuned(engine, {"d": judged})
    assert result.chosen is result.trials[0]


def test_of_partially_judged_queries_only_judged_documents_are_ranked(engine: SearchEngine) -> None:
    judged = [
        JudgedQuery(query_for(name), {name: 1.0}, frozenset({other}), partially_judged=True)
        for name, other in zip(NAMES, NAMES[1:] + NAMES[:1], strict=True)
    ]
    result = tuned(engine, {"d": judged})
    # one relevant and one irrelevant document: the relevant one ranks first or second
    assert {round(value, 3) for trial in result.trials for value in trial.values} <= {1.0, 0.631}


@pytest.mark.parametrize(
    ("judged", "budget", "message"),
    [
        ({}, ROOMY, "no domain has 10 judged queries"),
        ({"d": [JudgedQuery(str(n), {"molan": 1.0}) for n in range(9)]}, ROOMY, "no domain has 10"),
        ({"d": [JudgedQuery(str(n), {}, frozenset({"molan"})) for n in range(20)]}, ROOMY, "with a relevant document"),
        ({"d": [JudgedQuery(query_for(n), {n: 1.0}) for n in NAMES]}, Budget(0.0, 1e6), "no setting is within 0 ms"),
    ],
)
def test_too_few_labels_and_too_small_budgets_are_explained(
    engine: SearchEngine, judged: dict[str, list[JudgedQuery]], budget: Budget, message: str
) -> None:
    with pytest.raises(LabelError, match=message):
        tuned(engine, judged, budget)


def test_memory_over_budget_is_not_chosen(engine: SearchEngine) -> None:
    judged = {"d": [JudgedQuery(query_for(name), {name: 1.0}) for name in NAMES]}
    result = tuned(engine, judged, Budget(1e6, 0.5))
    assert result.chosen.setting.search.mode is Mode.KEYWORD
    assert result.chosen.domain_kib == 0
    assert result.trials[0].domain_kib > 0.5


def test_larger_ef_search_is_tried_for_an_index_with_a_graph(
    shop: Path, tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder
) -> None:
    build_index(tmp_path / "graph", shop / "shop.jsonl", model=tiny_model, index={"type": "hnsw"})
    engine = SearchEngine.open(tmp_path / "graph", encoder=tiny_encoder, threads=1)
    ef_search = engine.ef_search
    assert ef_search is not None
    result = tuned(engine, {"d": [JudgedQuery(query_for(name), {name: 1.0}) for name in NAMES]})
    engine.close()
    assert {trial.setting.search.ef_search for trial in result.trials} == {None, 2 * ef_search, 4 * ef_search}
    assert str(result.trials[-1].setting.search).endswith(f", ef_search {ef_search * 4}")


@pytest.mark.parametrize(("improvement", "expected"), [(0.0, False), (0.02, False), (0.3, True)])
def test_the_luckiest_of_many_alternatives_is_not_chosen(improvement: float, expected: bool) -> None:
    choices = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        values = rng.normal(0.5, 0.2, size=(40, 60))
        values[:, 7] += improvement
        chosen = reality_check(values, 0, rng=rng)
        assert chosen in {0, 7} or not expected
        choices += chosen != 0
    assert choices == 40 if expected else choices < 12


def test_the_command_writes_its_choice_to_index_and_recipe(
    copy: Path, labels: Path, tiny_encoder: Encoder, command: Command, weights_of_another_encoder: Path
) -> None:
    before = (copy / "current").read_text(), copy.with_suffix(".toml").read_text()
    done = command("tune", copy, "--weights", weights_of_another_encoder, "--labels", labels, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "Chosen: " in done.stdout
    assert ((copy / "current").read_text(), copy.with_suffix(".toml").read_text()) == before
    assert not (copy / "labels.sqlite").exists()
    done = command(
        "tune", copy, "--weights", weights_of_another_encoder, "--labels", labels, "--max-ms", "1000", "--json"
    )
    assert done.returncode == 0, done.stderr
    [chosen] = [trial for trial in json.loads(done.stdout)["trials"] if trial["chosen"]]
    manifest, text = read_manifest(copy), copy.with_suffix(".toml").read_text()
    assert manifest.search.mode.value == chosen["search"]["mode"] != "semantic"
    assert manifest.tuned is not None
    assert manifest.tuned["queries"] == len(NAMES)
    recipe = Recipe.read(copy.with_suffix(".toml"))
    assert (recipe.search, recipe.adaptation) == (manifest.search, manifest.adaptation)
    assert "# what the shop sells" in text
    assert "# chosen by semsearch tune on 24 judged queries; budget 1000 ms a search, 512 KiB a domain" in text
    assert f"{chosen['ndcg10']:.4f}" in text
    assert "identity" in text
    engine = SearchEngine.open(copy, encoder=tiny_encoder)
    assert hits_of(engine, [Query(query_for("kanor"), k=1)])[0][0].id == "kanor"
    engine.close()
    assert "tuned" in command("info", copy).stdout
    again = command("tune", copy, "--weights", weights_of_another_encoder, "--labels", labels, "--max-ms", "1000")
    assert "The present setting stays" in again.stdout
    assert copy.with_suffix(".toml").read_text() == text


class StopAfter:
    """Says to stop from its nth call on."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_stopping_gives_the_best_of_the_settings_tried_so_far(engine: SearchEngine) -> None:
    judged = {"d": [JudgedQuery(query_for(name), {name: 1.0}) for name in NAMES]}
    calls = len(NAMES) + FOLDS  # of one setting: before each adaptation and each search
    full = tuned(engine, judged)
    for tried, more in ((1, 0), (1, calls - 1), (2, 3)):
        *events, result = tune(engine, None, judged, ROOMY, should_stop=StopAfter(tried * calls + more))
        assert isinstance(result, TuningResult)
        assert len(result.trials) == tried
        assert len(result.trials) + result.untried == len(full.trials)
        assert [trial.setting for trial in result.trials] == [trial.setting for trial in full.trials[:tried]]
        progress = [event.done for event in events if isinstance(event, Progress)]
        assert progress == sorted(progress)
        assert tried <= progress[-1] < tried + 1
        assert (result.chosen is result.trials[0]) is (tried == 1)
        assert result.as_json()["untried"] == result.untried
    with pytest.raises(LabelError, match=r"stopped before the present setting had been tried.*allow more time"):
        list(tune(engine, None, judged, ROOMY, should_stop=StopAfter(calls - 1)))


def test_progress_counts_the_folds_of_each_domain(engine: SearchEngine) -> None:
    judged = {name: [JudgedQuery(query_for(name), {name: 1.0}) for name in NAMES[:10]] for name in "ab"}
    first = [event.done for event in tune(engine, None, judged, ROOMY) if isinstance(event, Progress)][: 2 * FOLDS]
    assert first == pytest.approx([number / (2 * FOLDS) for number in range(2 * FOLDS)])


@pytest.mark.parametrize(("options", "written"), [((), True), (("--dry-run",), False)])
def test_at_the_end_of_its_time_the_command_keeps_the_best_so_far(
    copy: Path,
    labels: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
    weights_of_another_encoder: Path,
    options: tuple[str, ...],
    written: bool,
) -> None:
    stop = StopAfter(3 * (len(NAMES) + FOLDS))
    monkeypatch.setattr("semsearch.cli.tune._Clock.should_stop", lambda _clock: stop())
    before = (copy / "current").read_text()
    done = command("tune", copy, "--weights", weights_of_another_encoder, "--labels", labels, *options)
    assert done.returncode == 0, done.stderr
    assert "best 3 of 3 settings; stopped before" in done.stdout
    assert "Chosen: " in done.stdout
    assert ((copy / "current").read_text() != before) is written


def test_an_interrupt_prints_the_best_so_far_and_writes_nothing(
    copy: Path, labels: Path, monkeypatch: pytest.MonkeyPatch, command: Command, weights_of_another_encoder: Path
) -> None:
    stop = StopAfter(3 * (len(NAMES) + FOLDS))
    before = {path: path.stat().st_mtime_ns for path in (copy / "current", copy.with_suffix(".toml"))}

    def should_stop(clock: _Clock) -> bool:
        if stop():
            signal.raise_signal(signal.SIGINT)
        return clock.interrupted.is_set()

    monkeypatch.setattr("semsearch.cli.tune._Clock.should_stop", should_stop)
    handler = signal.getsignal(signal.SIGINT)
    done = command("tune", copy, "--weights", weights_of_another_encoder, "--labels", labels)
    assert done.returncode == 130
    assert "Chosen: " in done.stdout
    assert "interrupted: nothing was written" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize(
    ("budget_s", "shown"), [(math.inf, "1:00:00 left"), (30.0, "0:00:30 left"), (0.0, "0:00:00 left")]
)
def test_the_time_left_is_that_of_all_settings_or_of_the_budget(budget_s: float, shown: str) -> None:
    clock = _Clock(budget_s, threading.Event())
    column = _TimeLeft(clock)
    now = 0.0
    bar = Bar(column, get_time=lambda: now, disable=True, speed_estimate_period=SPEED_PERIOD_S)
    task_id = bar.add_task("", total=84)
    for now in (1800.0, 3600.0):  # noqa: B007 - the bar's clock
        bar.update(task_id, advance=21.0)
    assert column.render(bar.tasks[task_id]).plain == shown
    clock.interrupted.set()
    assert column.render(bar.tasks[task_id]).plain == "stopping"


def test_the_time_left_is_limited_by_the_budget() -> None:
    clock = _Clock(5.0, threading.Event())
    assert 0 < clock.left_s <= 5
    assert not clock.should_stop()
    assert _Clock(0.0, threading.Event()).should_stop()
    clock.interrupted.set()
    assert clock.should_stop()


@pytest.mark.parametrize(
    "options", [("--budget", "0"), ("--budget", "nan"), ("--max-ms", "nan"), ("--max-kib", "-1"), ("--budget", "soon")]
)
def test_a_limit_that_is_no_limit_is_refused_at_once(copy: Path, options: tuple[str, ...], command: Command) -> None:
    done = command("tune", copy, *options)
    assert done.returncode == 2
    assert options[0] in done.stderr


def test_a_choice_that_could_not_be_written_is_not_looked_for(
    copy: Path, labels: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK or Path(path) != copy)
    monkeypatch.setattr("semsearch.cli.tune.open_registry", lambda *_, **__: pytest.fail("opened"))
    done = command("tune", copy, "--labels", labels)
    assert (done.returncode, "cannot be written: change its permissions, or use --dry-run" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--labels", "{labels}", "--recipe", "{labels}/none.toml"), "no recipe at"),
        (("--labels", "{labels}/none"), "none"),
        ((), "no domain has 10 judged queries"),
    ],
)
def test_mistakes_are_explained(
    copy: Path, labels: Path, options: tuple[str, ...], message: str, command: Command
) -> None:
    done = command("tune", copy, *(option.format(labels=labels) for option in options))
    assert done.returncode == 1
    assert message in " ".join(done.stderr.replace("│", " ").split())
