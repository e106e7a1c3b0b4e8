"""Chooses for an index how it is to be searched and how its domains learn, by cross-validation on labelled queries.

Every setting is tried as it would serve: the labels of all folds but one adapt the domain, the queries of that fold are
ranked over the whole index. Does not depend on files or recipes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import median
from time import perf_counter

import numpy as np
from pydantic import JsonValue

from semsearch.adapters.adapter import Adapter, DomainAdapter
from semsearch.adapters.ndcg import DEPTH
from semsearch.adapters.state import DomainState
from semsearch.adapters.weights import Weights
from semsearch.domains.adapting import Encode, adapt
from semsearch.domains.judgments import JudgedQuery, ranking_ndcg
from semsearch.domains.lexical_weight import WEIGHTS
from semsearch.domains.model_selection import Values, bias_corrected_cv, reality_check
from semsearch.errors import LabelError
from semsearch.search.engine import Attributions, SearchEngine
from semsearch.search.ranking import FUSION_DEPTH, DenseResult, ResultPage
from semsearch.storage.manifest import AdaptationOptions, SearchOptions
from semsearch.types import Mode, Query

MIN_QUERIES = 10
"""Judged queries of a domain below which nothing can be cross-validated."""
FOLDS = 5
EF_SEARCH_FACTORS = (2, 4)
"""Times an index's effort that are tried; less would find too little to be fused with words."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to search an index and to have its domains learn."""

    search: SearchOptions
    adaptation: AdaptationOptions


@dataclass(frozen=True, slots=True)
class Budget:
    """What a search and a domain may cost at most."""

    search_ms: float
    """Median milliseconds of everything but the encoder, for one query at a time on this machine."""
    domain_kib: float
    """Median KiB that a domain's state takes in memory."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a setting brought, and what it costs."""

    setting: Setting
    values: Values
    """(n,) nDCG@10 of each judged query, adapted without it."""
    search_ms: float
    domain_kib: float

    def within(self, budget: Budget) -> bool:
        """Whether it costs no more than is allowed."""
        return self.search_ms <= budget.search_ms and self.domain_kib <= budget.domain_kib


@dataclass(frozen=True, slots=True)
class Progress:
    """Settings tried so far."""

    done: int
    of: int


@dataclass(frozen=True, slots=True)
class TuningResult:
    """What was tried, and what came of it."""

    trials: Sequence[Trial]
    """The first one is how the index is searched and learns now."""
    chosen: Trial
    improvement: float
    """What choosing like this adds to nDCG@10, measured on queries that were not chosen by."""
    low: float
    high: float
    """Bounds of its central 95% interval."""
    queries: int
    domains: int

    def as_json(self) -> dict[str, JsonValue]:
        """For the manifest and for programs."""
        return {
            "queries": self.queries,
            "domains": self.domains,
            "folds": FOLDS,
            "gain": round(self.improvement, 4),
            "interval": [round(self.low, 4), round(self.high, 4)],
            "trials": [
                {
                    "search": trial.setting.search.model_dump(mode="json"),
                    "adaptation": trial.setting.adaptation.model_dump(mode="json"),
                    "ndcg10": round(float(trial.values.mean()), 4),
                    "search_ms": round(trial.search_ms, 3),
                    "domain_kib": round(trial.domain_kib, 1),
                    "chosen": trial is self.chosen,
                }
                for trial in self.trials
            ],
        }


def settings(now: Setting, weights: Weights | None, effort: int | None) -> list[Setting]:
    """What is tried: the present setting first, then every way to search with every way to learn, and the present
    setting with more effort.

    weights: None where nothing was learned beforehand for the index's encoder: then there are no learners. effort:
    candidates that are kept along the index's graph; None where there is none.
    """
    searches = [now.search.model_copy(update={"mode": Mode.SEMANTIC})]
    searches += [
        now.search.model_copy(update={"mode": Mode.HYBRID, "lexical_weight": weight})
        for weight in (*WEIGHTS[1:], "rrf")
    ]
    learners: list[tuple[str, ...] | None] = [()]
    if weights is not None:
        learners += [None, *((candidate.name,) for candidate in weights.candidates)]
    tried = [Setting(search, AdaptationOptions(learners=names)) for search in searches for names in learners]
    tried.append(Setting(now.search.model_copy(update={"mode": Mode.KEYWORD}), AdaptationOptions(learners=())))
    if effort is not None:
        tried += [
            replace(now, search=now.search.model_copy(update={"ef_search": factor * effort}))
            for factor in EF_SEARCH_FACTORS
        ]
    return [now, *(setting for setting in tried if setting != now)]


def tune(
    engine: SearchEngine, weights: Weights | None, judged: Mapping[str, Sequence[JudgedQuery]], budget: Budget
) -> Iterator[Progress | TuningResult]:
    """Try every setting and choose; nothing of the engine changes.

    judged: by domain. Of settings within the budget the one is chosen that surely helps more than the present one (see
    `reality_check`); where none does, the present one, or, where that is over the budget, the best within it. What the
    choice is worth is measured on queries that were not chosen by (see `bias_corrected_cv`).

    Raises LabelError where no domain has FEWEST judged queries that name a right answer, or nothing is within budget.
    """
    asked = {domain: [query for query in queries if query.relevance] for domain, queries in sorted(judged.items())}
    asked = {domain: queries for domain, queries in asked.items() if len(queries) >= MIN_QUERIES}
    if not asked:
        raise LabelError(
            f"no domain has {MIN_QUERIES} judged queries with a right answer, which cross-validation takes:"
            " label more, or give them with --labels"
        )
    bench = _Bench(engine, weights)
    manifest = engine.manifest
    tried = settings(Setting(manifest.search, manifest.adaptation), weights, engine.ef_search)
    trials: list[Trial] = []
    for setting in tried:
        yield Progress(len(trials), len(tried))
        trials.append(bench.trial(setting, asked))
    yield Progress(len(tried), len(tried))
    yield _chosen(trials, budget, len(asked))


class _Bench:
    """Tries settings on one index; encodes a query once and looks its words up once."""

    def __init__(self, engine: SearchEngine, weights: Weights | None) -> None:
        self._engine = engine
        self._weights = weights
        self._encoded = cache(engine.encode_label)
        self._matched = cache(engine.match_label)

    def trial(self, setting: Setting, asked: Mapping[str, Sequence[JudgedQuery]]) -> Trial:
        """Cross-validate one setting."""
        manifest = self._engine.manifest.model_copy(update={"search": setting.search, "adaptation": setting.adaptation})
        engine = SearchEngine(
            encoder=self._engine.encoder,
            adapter=Adapter(self._engine.adapter.basis, {}),
            corpus=self._engine.corpus,
            manifest=manifest,
        )
        values: list[float] = []
        seconds: list[float] = []
        kib: list[float] = []
        for queries in asked.values():
            fold_of = np.random.default_rng(len(queries)).permutation(len(queries)) % FOLDS
            found: dict[int, float] = {}
            for fold in range(FOLDS):
                state = self._learned(
                    engine, [query for query, its in zip(queries, fold_of, strict=True) if its != fold]
                )
                kib.append(0.0 if state is None else state.nbytes / 1024)
                engine.adapter = Adapter(engine.adapter.basis, {"tried": DomainAdapter(state)})
                for place in np.flatnonzero(fold_of == fold).tolist():
                    started = perf_counter()
                    doc_ids = self._searched(engine, queries[place])
                    seconds.append(perf_counter() - started)
                    found[place] = ranking_ndcg(doc_ids, queries[place])
            values += [found[place] for place in range(len(queries))]
        return Trial(setting, np.array(values), 1000 * median(seconds), median(kib))

    def _learned(self, engine: SearchEngine, judged: Sequence[JudgedQuery]) -> DomainState | None:
        if engine.manifest.search.mode is Mode.KEYWORD:
            return None
        solve = None if self._weights is None else self._weights.adapt
        return adapt(engine, solve, judged, encode=self._encoded, match=self._matched).state

    def _searched(self, engine: SearchEngine, query: JudgedQuery) -> list[str]:
        """Ids of the documents that are found, best first; of a query judged in part, of its judged ones only."""
        wanted = Query(query.text, FUSION_DEPTH if query.partially_judged else DEPTH, domain="tried")
        [outcome] = engine.search([wanted], stages=_CachedVectors(engine, self._encoded))
        doc_ids = [hit.id for hit in outcome.hits]
        if not query.partially_judged:
            return doc_ids
        return [doc_id for doc_id in doc_ids if doc_id in query.relevance or doc_id in query.negatives]


@dataclass(frozen=True, slots=True)
class _CachedVectors:
    """The encoder's stages, with query vectors that are known already."""

    engine: SearchEngine
    encoded: Encode

    def check_deadline(self) -> None:
        """Do nothing: tuning has no deadline."""

    def retrieve(self, queries: Sequence[Query]) -> list[DenseResult]:
        return self.engine.search_vectors(queries, np.concatenate([self.encoded(query.text) for query in queries]))

    def token_attributions(self, pages: Sequence[ResultPage]) -> list[Attributions | None]:
        return self.engine.token_attributions(pages)


def _chosen(trials: Sequence[Trial], budget: Budget, domains: int) -> TuningResult:
    allowed = [place for place, trial in enumerate(trials) if trial.within(budget)]
    if not allowed:
        cheapest = min(trials, key=lambda trial: (trial.search_ms, trial.domain_kib))
        raise LabelError(
            f"nothing is within {budget.search_ms:g} ms a search and {budget.domain_kib:g} KiB a domain; the cheapest,"
            f" {cheapest.setting.search}, takes {cheapest.search_ms:.2f} ms, {cheapest.domain_kib:.0f} KiB: allow more"
        )
    values = np.stack([trials[place].values for place in allowed], axis=1)
    usual = 0 if allowed[0] == 0 else int(np.argmax(values.mean(axis=0)))
    rng = np.random.default_rng(0)
    chosen = reality_check(values, usual, rng=rng)
    gain, low, high = bias_corrected_cv(values, usual, before=trials[0].values, rng=rng)
    return TuningResult(trials, trials[allowed[chosen]], gain, low, high, len(values), domains)
