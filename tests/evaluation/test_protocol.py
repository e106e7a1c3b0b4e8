"""Evaluation from data sets to rows, tables and plots, on made-up ones in which it is known which method must win."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from semsearch.adapters.adapter import Adapter, DomainAdapter
from semsearch.adapters.weights import Weights
from semsearch.domains.adapting import adapt
from semsearch.domains.judgments import ranking_ndcg
from semsearch.errors import InputError, LabelError
from semsearch.evaluation.dataset_index import DatasetIndex, dataset_engine, judged_queries
from semsearch.evaluation.labelling import LabelSource
from semsearch.evaluation.plots import check_plots, draw
from semsearch.evaluation.protocol import BASELINES, METHODS, Measurement, Plan, chosen_methods, evaluate
from semsearch.evaluation.report import Improvement, check_folder, save_json, save_markdown, summary, tables
from semsearch.metalearn.episodes import Dataset
from semsearch.metalearn.outer_loop import OuterLoopSettings
from semsearch.metalearn.training import train
from semsearch.storage.manifest import SearchOptions
from semsearch.types import Mode, Query
from tests.adapters.worlds import domain

PLAN = Plan(labels=(0, 8, 40), seeds=2, methods=chosen_methods(METHODS))


@pytest.fixture(scope="module")
def weights() -> Weights:
    worlds = [domain(seed, name=f"w{seed}", family=f"f{seed}", queries=90) for seed in range(30, 34)]
    *_, last = train(worlds, OuterLoopSettings(steps=4, episodes=1, learners=("listwise",)), about={}, trial_seeds=1)
    assert isinstance(last, Weights)
    return last


@pytest.fixture(scope="module")
def measured(weights: Weights) -> list[Measurement]:
    worlds = [
        domain(0, name="dialect", family="one", queries=120),
        domain(1, name="plain", family="two", dialect=0.0, queries=120),
    ]
    return [measurement for results in evaluate(worlds, [weights], PLAN) for measurement in results]


@pytest.fixture(scope="module")
def lines(measured: list[Measurement]) -> list[Improvement]:
    return summary(measured)


def of(lines: list[Improvement], method: str, labels: int, over: str = "frozen") -> Improvement:
    [line] = [
        line
        for line in lines
        if (line.method, line.labels, line.over, line.measure) == (method, labels, over, "nDCG@10")
        and line.group == "all"
    ]
    return line


def test_every_method_is_measured_on_the_same_queries(measured: list[Measurement]) -> None:
    assert len(measured) == 2 * 2 * 3 * len(PLAN.methods)
    for measurement in measured:
        assert {len(values) for values in measurement.values.values()} == {60}
        assert measurement.given == measurement.labels
        assert not measurement.seen


def test_without_labels_every_dense_method_is_the_frozen_encoder(
    measured: list[Measurement], lines: list[Improvement]
) -> None:
    for method in set(PLAN.methods) - {"bm25", "fused", "frozen", "semantic", "hybrid"}:
        assert (of(lines, method, 0).low, of(lines, method, 0).high) == (0.0, 0.0)
    zero = {each.method: each for each in measured if each.labels == 0 and each.seed == 0 and each.domain == "dialect"}
    np.testing.assert_array_equal(zero["semsearch"].values["nDCG@10"], zero["frozen"].values["nDCG@10"])


def test_adaptation_helps_where_it_can_and_is_left_where_it_cannot(lines: list[Improvement]) -> None:
    guarded = of(lines, "semsearch", 40)
    assert guarded.low > 0.02
    assert guarded.worst > -0.01
    assert of(lines, "semsearch", 40, over="ridge").mean > 0


def test_members_and_baselines_move_the_ranking(lines: list[Improvement]) -> None:
    for method in set(PLAN.methods) - {"frozen", "semsearch"}:
        assert of(lines, method, 40).mean != 0.0, method


def test_the_hybrid_is_the_one_that_is_served(measured: list[Measurement], weights: Weights) -> None:
    """Measured again by hand: an engine over the data set, adapted as a domain of an index is."""
    dataset = domain(0, name="dialect", family="one", queries=120)
    [hybrid] = [
        each
        for each in measured
        if (each.method, each.labels, each.seed, each.domain) == ("hybrid", 40, 0, dataset.name)
    ]
    pool, held_out = dataset.halves(0)
    with TemporaryDirectory() as folder:
        engine = dataset_engine(dataset, Path(folder))
        adaptation = adapt(
            engine, weights.adapt, judged_queries(dataset, pool[:40].tolist()), encode=engine.encode_label
        )
        assert adaptation.state is not None
        engine.adapter = Adapter(dataset.basis, {"shop": DomainAdapter(adaptation.state.quantized())})
        outcomes = engine.search([Query(dataset.texts.queries[row], domain="shop") for row in held_out])
    values = [
        ranking_ndcg([hit.id for hit in outcome.hits], *judged_queries(dataset, [row]))
        for outcome, row in zip(outcomes, held_out.tolist(), strict=True)
    ]
    np.testing.assert_allclose(hybrid.values["nDCG@10"], values, atol=1e-12)
    assert hybrid.chosen.startswith(f"{adaptation.learner}, lexical weight ")


def test_hybrid_search_gains_from_labels_where_words_say_nothing(lines: list[Improvement]) -> None:
    """In these worlds queries share words with documents by chance only."""
    assert of(lines, "bm25", 40).mean < of(lines, "fused", 40).mean < 0
    assert of(lines, "hybrid", 40).mean > of(lines, "hybrid", 0).mean
    assert of(lines, "hybrid", 40, over="fused").low > 0


def test_rows_hold_what_programs_need(tmp_path: Path, measured: list[Measurement], lines: list[Improvement]) -> None:
    save_json(tmp_path / "deep" / "out.json", measured, lines, {"seeds": 2})
    content = json.loads((tmp_path / "deep" / "out.json").read_text())
    assert {"domain", "family", "method", "labels", "seed", "measure", "value", "queries"} <= set(content["rows"][0])
    assert len(content["rows"]) == 3 * len(measured)
    assert content["settings"] == {"seeds": 2}
    assert {"mean", "low", "high", "worst", "worst_domain"} <= set(content["table"][0])
    assert any(str(row.get("chosen")).startswith("contraction") for row in content["rows"])


def test_the_table_is_markdown(tmp_path: Path, lines: list[Improvement]) -> None:
    table = save_markdown(tmp_path / "table.md", lines, (8, 40)).read_text().splitlines()
    assert table[0].startswith("nDCG@10 over frozen (0.")
    assert table[1:4] == ["", "| method | 8 labels | 40 labels |", "|---|---|---|"]
    # a line for each measure, one for semantic and one for hybrid over it, and one over itself without labels
    assert sum(line.startswith("| semsearch | ") for line in table) == 6
    assert sum(line.startswith("| ridge | ") for line in table) == 6  # and semsearch over it


def test_plots_are_drawn(tmp_path: Path, measured: list[Measurement], lines: list[Improvement]) -> None:
    paths = draw(tmp_path / "plots", measured, lines)
    assert sorted(path.name for path in paths) == ["chosen.png", "forest.png", "gain.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_processes_give_the_same_numbers(weights: Weights) -> None:
    plan = Plan(labels=(8,), seeds=1, methods=("frozen", "semsearch", "hybrid"))
    worlds = [domain(seed, name=f"w{seed}", queries=60) for seed in range(2)]
    alone = {results[0].domain: results for results in evaluate(worlds, [weights], plan)}
    for results in evaluate(worlds, [weights], plan, processes=2):
        for together, other in zip(results, alone[results[0].domain], strict=True):
            np.testing.assert_allclose(together.values["nDCG@10"], other.values["nDCG@10"], atol=1e-6)


def test_folds_are_measured_on_the_family_they_left_out(weights: Weights) -> None:
    def leaving_out(family: str) -> Weights:
        return replace(weights, metadata={**weights.metadata, "left_out": [family]})

    plan = Plan(labels=(8,), seeds=1, methods=("frozen", "semsearch"))
    both = [leaving_out("f"), leaving_out("g")]
    assert len(list(evaluate([domain(0, family="g", queries=40)], both, plan))) == 1
    with pytest.raises(LabelError, match="none of 2 weights left out the family 'h'"):
        next(evaluate([domain(0, family="h", queries=40)], both, plan))


def test_a_family_the_weights_have_seen_is_marked(weights: Weights) -> None:
    plan = Plan(labels=(8,), seeds=1, methods=("frozen",))
    [[measurement]] = evaluate([domain(0, family="f30", queries=40)], [weights], plan)
    assert measurement.seen


@pytest.mark.parametrize(
    ("queries", "documents", "texts"),
    [
        (["?", "…", "🙂", " ", "\x00", '"', "query"], 40, "document"),
        (["?", "…", " ", "query", "document 3", "3", "0", "row:3"], 40, "?"),
        (["a", "b"], 2, ""),
        (["?"] * 6, 1, "document"),
        (["query", "?", " ", "other"] * 5, 2100, "query"),
    ],
)
def test_queries_and_documents_without_words_are_measured(
    weights: Weights, queries: list[str], documents: int, texts: str
) -> None:
    dataset = domain(0, queries=len(queries), documents=max(documents, 2))
    judgments = [{row % documents: 1.0} for row in range(len(queries))]
    dataset = replace(
        dataset,
        documents=dataset.documents[:documents],
        texts=replace(dataset.texts, documents=[texts] * documents, queries=queries, judgments=judgments),
    )
    plan = Plan(labels=(0, 1, 8), seeds=2, methods=chosen_methods([*METHODS]))
    measured = [measurement for results in evaluate([dataset], [weights], plan) for measurement in results]
    for measurement in measured:
        for values in measurement.values.values():
            assert np.isfinite(values).all(), measurement.method
    assert all(np.isfinite([line.mean, line.low, line.high]).all() for line in summary(measured))


def test_a_query_that_is_a_number_is_not_taken_for_the_id_of_a_document(tmp_path: Path) -> None:
    dataset = domain(0, queries=2, documents=4)
    dataset = replace(dataset, texts=replace(dataset.texts, queries=["3", "3 cats"], documents=["3 cats", "", "", ""]))
    with DatasetIndex.build(dataset) as index:
        assert [rows.tolist() for rows in index.search("bm25", np.array([0, 1]))] == [[0], [0]]


def test_plots_without_their_library_are_refused_with_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semsearch.evaluation.plots.find_spec", lambda _name: None)
    with pytest.raises(InputError, match=r"plots need matplotlib: .* -m pip install .*matplotlib"):
        check_plots(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file cannot be written"):
        check_folder(tmp_path / "file")


def test_an_unknown_method_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="'magic'"):
        chosen_methods(["magic"])
    assert chosen_methods(["bm25"]) == ("frozen", "bm25")
    assert set(BASELINES) <= set(chosen_methods(METHODS))


@pytest.fixture(scope="module")
def skewed(weights: Weights) -> list[Measurement]:
    """Three data sets in two languages and two families, with and without a skew."""
    worlds = [
        with_language(domain(seed, name=f"w{seed}", family=family, queries=60), language)
        for seed, (family, language) in enumerate([("one", "en"), ("one", "en"), ("two", "de")])
    ]
    plan = Plan(labels=(0, 8, 20), seeds=2, methods=("frozen", "semsearch", "semantic", "hybrid"), skews=(0.0, 1.0))
    return [measurement for results in evaluate(worlds, [weights], plan) for measurement in results]


def with_language(dataset: Dataset, language: str) -> Dataset:
    return replace(dataset, texts=replace(dataset.texts, language=language))


def test_a_skew_measures_labelled_queries_by_their_popularity(skewed: list[Measurement]) -> None:
    for each in skewed:
        if not each.skew:
            assert each.weights is None
            assert each.unlabelled.all()
            assert len(each.queries) == 30
            continue
        assert each.weights is not None
        assert each.weights.sum() == pytest.approx(1)
        assert len(each.queries) == 60
        assert np.count_nonzero(~each.unlabelled) == each.given == each.labels
        sample = each.sample("nDCG@10")
        assert sample.mean() == pytest.approx(float(each.weights @ each.values["nDCG@10"]))
        rest = each.sample("nDCG@10", unlabelled=True)
        assert rest.weights is not None
        expected = rest.weights @ rest.values / rest.weights.sum()
        assert rest.mean() == pytest.approx(float(expected))


def test_another_skew_does_not_change_what_is_measured_without_one(skewed: list[Measurement], weights: Weights) -> None:
    plan = Plan(labels=(0, 8, 20), seeds=2, methods=("frozen", "semsearch", "semantic", "hybrid"))
    [alone] = evaluate([domain(0, name="w0", family="one", queries=60)], [weights], plan)
    together = [each for each in skewed if each.domain == "w0" and not each.skew]
    for one, other in zip(alone, together, strict=True):
        assert (one.method, one.labels, one.seed) == (other.method, other.labels, other.seed)
        np.testing.assert_array_equal(one.values["nDCG@10"], other.values["nDCG@10"])


def test_improvements_over_the_same_search_without_labels_are_paired(skewed: list[Measurement]) -> None:
    lines = summary(skewed)
    for skew, queries in ((0.0, "all"), (1.0, "all"), (1.0, "unlabelled")):
        for method in ("semsearch", "semantic", "hybrid"):
            [line] = [
                line
                for line in lines
                if (line.method, line.over, line.labels) == (method, "no labels", 20)
                and (line.skew, line.queries, line.group) == (skew, queries, "all")
            ]
            means: dict[str, list[float]] = {}
            for each in skewed:
                if (each.method, each.labels, each.skew) == (method, 20, skew):
                    [base] = [
                        other
                        for other in skewed
                        if (other.method, other.labels, other.skew) == (method, 0, skew)
                        and (other.domain, other.seed) == (each.domain, each.seed)
                    ]
                    change = each.values["nDCG@10"] - base.values["nDCG@10"]
                    measured = each.unlabelled if queries == "unlabelled" else slice(None)
                    shares = None if each.weights is None else each.weights[measured]
                    means.setdefault(each.domain, []).append(float(np.average(change[measured], weights=shares)))
            by_domain = {name: float(np.mean(values)) for name, values in means.items()}
            assert line.mean == pytest.approx((np.mean([by_domain["w0"], by_domain["w1"]]) + by_domain["w2"]) / 2)
            assert line.worst == pytest.approx(min(by_domain.values()))
            assert line.low <= line.mean <= line.high
            assert line.domains == 3


def test_languages_and_families_have_lines_of_their_own(tmp_path: Path, skewed: list[Measurement]) -> None:
    lines = summary(skewed)
    groups = {line.group for line in lines}
    assert groups == {"all", "language:en", "language:de", "family:one", "family:two"}
    save_json(tmp_path / "out.json", skewed, lines, {})
    content = json.loads((tmp_path / "out.json").read_text())
    assert {line["group"] for line in content["table"]} == {"all"}
    assert {line["queries"] for line in content["table"]} == {"all"}
    assert len(content["table"]) + len(content["groups"]) == len(lines)
    assert {row.get("skew") for row in content["rows"]} == {None, 1.0}
    assert all(("unlabelled" in row) == ("skew" in row) for row in content["rows"])
    titles = [title.partition(" (")[0] for title in (table.title for table in tables(lines, (0, 8, 20)))]
    assert "nDCG@10 over the same search without labels, by language" in titles
    assert "nDCG@10 over the same search without labels, by family, queries not labelled, skew 1" in titles


def test_plots_are_drawn_of_the_first_skew(tmp_path: Path, skewed: list[Measurement]) -> None:
    lines = summary(skewed)
    draw(tmp_path / "both", skewed, lines)
    without = [each for each in skewed if not each.skew]
    draw(tmp_path / "first", without, [line for line in lines if not line.skew])
    for name in ("gain.png", "forest.png", "chosen.png"):
        assert (tmp_path / "both" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
    draw(tmp_path / "second", [each for each in skewed if each.skew], [line for line in lines if line.skew])


def test_labels_from_a_search_are_fewer_than_all_judgments(weights: Weights) -> None:
    dataset = domain(0, queries=60)
    given = {}
    for source in LabelSource:
        plan = Plan(labels=(0, 20), seeds=1, methods=chosen_methods(None, source), labels_from=source)
        [results] = evaluate([dataset], [weights], plan)
        given[source] = {each.method: each.given for each in results if each.labels == 20}
        assert all(each.labels_from is source for each in results)
    assert given[LabelSource.ALL]["hybrid"] == given[LabelSource.FIRST_RESULTS]["hybrid"] == 20
    assert 0 < given[LabelSource.CLICKS]["hybrid"] < 20
    assert set(given[LabelSource.CLICKS]) == {"frozen", "semantic", "hybrid", "bm25", "fused"}


def test_methods_without_results_to_judge_are_refused() -> None:
    with pytest.raises(InputError, match=r"ridge shows no results .* labels from clicks choose from semantic, hybrid"):
        chosen_methods(["hybrid", "ridge"], LabelSource.CLICKS)
    with pytest.raises(InputError, match="member:film"):
        chosen_methods(["member:film"], LabelSource.FIRST_RESULTS)
    assert chosen_methods(None, LabelSource.CLICKS) == ("frozen", "semantic", "hybrid", "bm25", "fused")


def test_the_semantic_search_is_the_one_that_is_served(skewed: list[Measurement], weights: Weights) -> None:
    """Measured again by hand, with the state as it is read from disk."""
    dataset = domain(0, name="w0", family="one", queries=60)
    [semantic] = [
        each
        for each in skewed
        if (each.method, each.labels, each.seed, each.domain, each.skew) == ("semantic", 20, 0, "w0", 0.0)
    ]
    pool, held_out = dataset.halves(0)
    with TemporaryDirectory() as folder:
        engine = dataset_engine(dataset, Path(folder), SearchOptions(mode=Mode.SEMANTIC))
        state = adapt(
            engine, weights.adapt, judged_queries(dataset, pool[:20].tolist()), encode=engine.encode_label
        ).state
        assert state is not None
        engine.adapter = Adapter(dataset.basis, {"shop": DomainAdapter(state.quantized())})
        outcomes = engine.search([Query(dataset.texts.queries[row], domain="shop") for row in held_out])
    values = [
        ranking_ndcg([hit.id for hit in outcome.hits], *judged_queries(dataset, [row]))
        for outcome, row in zip(outcomes, held_out.tolist(), strict=True)
    ]
    np.testing.assert_allclose(semantic.values["nDCG@10"], values, atol=1e-12)
