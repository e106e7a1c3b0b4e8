"""Tuning: a better setting is found where there is one, luck is not taken for one, and the choice is written down."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from semsearch.domains.judgments import JudgedQuery
from semsearch.domains.model_selection import reality_check
from semsearch.domains.tuning import Budget, Progress, TuningResult, tune
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
    """An index searched by meaning, of things that the small model cannot tell apart and words can."""
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
    write_jsonl(folder / "queries.jsonl", ({"_id": n, "text": asked(name)} for n, name in enumerate(NAMES)))
    (folder / "qrels.tsv").write_text("".join(f"{n}\t{name}\t1\n" for n, name in enumerate(NAMES)))
    return folder


@pytest.fixture
def engine(shop: Path, tiny_encoder: Encoder) -> Iterator[SearchEngine]:
    opened = SearchEngine.open(shop / "shop", encoder=tiny_encoder, threads=1)
    yield opened
    opened.close()


def asked(name: str) -> str:
    return f"which of the things that you have in this place is {name}"


def tuned(engine: SearchEngine, judged: dict[str, list[JudgedQuery]], budget: Budget = ROOMY) -> TuningResult:
    *progress, last = tune(engine, None, judged, budget)
    assert all(isinstance(event, Progress) for event in progress)
    assert isinstance(last, TuningResult)
    return last


def test_what_surely_helps_is_chosen_and_its_worth_is_told(engine: SearchEngine) -> None:
    found = tuned(engine, {"d": [JudgedQuery(asked(name), {name: 1.0}) for name in NAMES]})
    assert found.trials[0].setting.search.mode is Mode.SEMANTIC
    assert found.chosen.setting.search.mode is not Mode.SEMANTIC
    assert found.chosen.values.mean() > 0.95 > found.trials[0].values.mean() + 0.1
    assert found.low > 0.05
    assert (found.queries, found.domains) == (len(NAMES), 1)
    assert {trial.setting.search.mode for trial in found.trials} == set(Mode)
    assert all(trial.search_ms > 0 for trial in found.trials)
    assert engine.manifest.search.mode is Mode.SEMANTIC


def test_labels_that_say_nothing_change_nothing(engine: SearchEngine) -> None:
    rng = np.random.default_rng(0)
    judged = [JudgedQuery(f"query {n}", {str(rng.choice(NAMES)): 1.0}) for n in range(20)]
    found = tuned(engine, {"d": judged})
    assert found.chosen is found.trials[0]


def test_of_queries_judged_in_part_only_what_was_judged_counts(engine: SearchEngine) -> None:
    judged = [
        JudgedQuery(asked(name), {name: 1.0}, frozenset({other}), partially_judged=True)
        for name, other in zip(NAMES, NAMES[1:] + NAMES[:1], strict=True)
    ]
    found = tuned(engine, {"d": judged})
    # one right and one wrong answer: the right one is first or second
    assert {round(value, 3) for trial in found.trials for value in trial.values} <= {1.0, 0.631}


@pytest.mark.parametrize(
    ("judged", "budget", "said"),
    [
        ({}, ROOMY, "no domain has 10 judged queries"),
        ({"d": [JudgedQuery(str(n), {"molan": 1.0}) for n in range(9)]}, ROOMY, "no domain has 10"),
        ({"d": [JudgedQuery(str(n), {}, frozenset({"molan"})) for n in range(20)]}, ROOMY, "with a right answer"),
        ({"d": [JudgedQuery(asked(n), {n: 1.0}) for n in NAMES]}, Budget(0.0, 1e6), "nothing is within 0 ms"),
    ],
)
def test_what_cannot_be_tuned_is_said(
    engine: SearchEngine, judged: dict[str, list[JudgedQuery]], budget: Budget, said: str
) -> None:
    with pytest.raises(LabelError, match=said):
        tuned(engine, judged, budget)


def test_memory_over_budget_is_not_chosen(engine: SearchEngine) -> None:
    judged = {"d": [JudgedQuery(asked(name), {name: 1.0}) for name in NAMES]}
    found = tuned(engine, judged, Budget(1e6, 0.5))
    assert found.chosen.setting.search.mode is Mode.KEYWORD
    assert found.chosen.domain_kib == 0
    assert found.trials[0].domain_kib > 0.5


def test_of_an_index_with_a_graph_its_effort_is_tried(
    shop: Path, tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder
) -> None:
    build_index(tmp_path / "graph", shop / "shop.jsonl", model=tiny_model, index={"type": "hnsw"})
    engine = SearchEngine.open(tmp_path / "graph", encoder=tiny_encoder, threads=1)
    effort = engine.ef_search
    assert effort is not None
    found = tuned(engine, {"d": [JudgedQuery(asked(name), {name: 1.0}) for name in NAMES]})
    engine.close()
    efforts = {trial.setting.search.ef_search for trial in found.trials}
    assert efforts == {None, 2 * effort, 4 * effort}
    assert str(found.trials[-1].setting.search).endswith(f", {effort * 4} candidates")


@pytest.mark.parametrize(("better", "expected"), [(0.0, False), (0.02, False), (0.3, True)])
def test_the_luckiest_of_many_is_not_taken_for_better(better: float, expected: bool) -> None:
    taken = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        values = rng.normal(0.5, 0.2, size=(40, 60))
        values[:, 7] += better
        chosen = reality_check(values, 0, rng=rng)
        assert chosen in {0, 7} or not expected
        taken += chosen != 0
    assert taken == 40 if expected else taken < 12


def test_the_command_writes_its_choice_into_index_and_recipe(
    copy: Path, labels: Path, tiny_encoder: Encoder, command: Command
) -> None:
    before = (copy / "current").read_text(), copy.with_suffix(".toml").read_text()
    done = command("tune", copy, "--labels", labels, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "Chosen: " in done.stdout
    assert ((copy / "current").read_text(), copy.with_suffix(".toml").read_text()) == before
    assert not (copy / "labels.sqlite").exists()
    done = command("tune", copy, "--labels", labels, "--max-ms", "1000", "--json")
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
    assert hits_of(engine, [Query(asked("kanor"), k=1)])[0][0].id == "kanor"
    engine.close()
    assert "tuned" in command("info", copy).stdout
    again = command("tune", copy, "--labels", labels, "--max-ms", "1000")
    assert "The present setting stays" in again.stdout
    assert copy.with_suffix(".toml").read_text() == text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--labels", "{labels}", "--recipe", "{labels}/none.toml"), "no recipe at"),
        (("--labels", "{labels}/none"), "none"),
        ((), "no domain has 10 judged queries"),
    ],
)
def test_mistakes_are_explained(copy: Path, labels: Path, words: tuple[str, ...], said: str, command: Command) -> None:
    done = command("tune", copy, *(word.format(labels=labels) for word in words))
    assert done.returncode == 1
    assert said in " ".join(done.stderr.replace("│", " ").split())
