"""Chooses the search mode and the learners of an index by cross-validation on judged queries.

Every setting is tried as it would serve: the judged queries of all folds but one adapt the domain, the queries of that
fold are ranked over the whole index. Does not depend on files or recipes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
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
"""Minimum number of judged queries of a domain for cross-validation."""
FOLDS = 5
EF_SEARCH_FACTORS = (2, 4)
"""Multiples of an index's `ef_search` that are tried; a smaller one would find too few candidates for fusion."""
TRIAL_DOMAIN = "trial"
"""Domain that judged queries are adapted in during a trial."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The search options of an index and the learners of its domains."""

    search: SearchOptions
    adaptation: AdaptationOptions


@dataclass(frozen=True, slots=True)
class Budget:
    """The maximum cost of a search and of a domain."""

    search_ms: float
    """Median milliseconds of a search without encoding, one query at a time, on this machine."""
    domain_kib: float
    """Median size of a domain's state in memory, KiB."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The results and the cost of one setting."""

    setting: Setting
    values: Values
    """(n,) nDCG@10 of each judged query, in a domain that was adapted without it."""
    search_ms: float
    """As in `Budget`."""
    domain_kib: float

    def within(self, budget: Budget) -> bool:
        """Whether the cost is within a budget."""
        return self.search_ms <= budget.search_ms and self.domain_kib <= budget.domain_kib


@dataclass(frozen=True, slots=True)
class Progress:
    """The number of settings tried so far."""

    done: float
    """With the tried share of the present one."""
    total: int


@dataclass(frozen=True, slots=True)
class TuningResult:
    """All trials and the chosen one."""

    trials: Sequence[Trial]
    """The first one is of the present setting."""
    untried: int
    """Number of settings that were not tried, because tuning was stopped."""
    chosen: Trial
    improvement: float
    """Expected change of nDCG@10 by this procedure, measured on queries that the choice did not use."""
    low: float
    high: float
    """Bounds of its central 95% interval."""
    queries: int
    """Number of judged queries."""
    domains: int
    """Number of domains that they belong to."""

    def as_json(self) -> dict[str, JsonValue]:
        """Return the result as a JSON object, for the manifest and for programs."""
        return {
            "queries": self.queries,
            "domains": self.domains,
            "folds": FOLDS,
            "untried": self.untried,
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


def candidate_settings(present: Setting, weights: Weights | None, ef_search: int | None) -> list[Setting]:
    """Return the settings to try, the present one first.

    The others are keyword search; semantic search, and hybrid search with each lexical weight, each combined with every
    choice of learners; and the present setting with a larger `ef_search`. If tuning is stopped early, it has tried all
    searches without learners, then with all of them, and at last with each learner alone.

    weights: None if there are no weights for the index's encoder; there are then no learners. ef_search: how much
    of the index's graph or inverted file a search visits; None if every vector is compared.
    """
    searches = [present.search.model_copy(update={"mode": Mode.SEMANTIC})]
    searches += [
        present.search.model_copy(update={"mode": Mode.HYBRID, "lexical_weight": weight})
        for weight in (*WEIGHTS[1:], "rrf")
    ]
    learners: list[tuple[str, ...] | None] = [()]
    if weights is not None:
        learners += [None, *((candidate.name,) for candidate in weights.candidates)]
    keyword_search = present.search.model_copy(update={"mode": Mode.KEYWORD})
    settings = [Setting(keyword_search, AdaptationOptions(learners=()))]
    settings += [Setting(search, AdaptationOptions(learners=names)) for names in learners for search in searches]
    if ef_search is not None:
        settings += [
            replace(present, search=present.search.model_copy(update={"ef_search": factor * ef_search}))
            for factor in EF_SEARCH_FACTORS
        ]
    return [present, *(setting for setting in settings if setting != present)]


def tune(
    engine: SearchEngine,
    weights: Weights | None,
    judged: Mapping[str, Sequence[JudgedQuery]],
    budget: Budget,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Progress | TuningResult]:
    """Try all candidate settings; yield the progress, and the result at the end. The engine is not changed.

    weights: None if there are no weights for the index's encoder. judged: judged queries by domain.
    should_stop: called before each adaptation and each search; once it returns true, the result is that of the settings
    tried so far, without the one that is being tried.

    `reality_check` chooses among the settings within the budget, with the present setting as the baseline, or, if that
    is over the budget, the best one within it. `bias_corrected_cv` estimates the improvement.

    Raises LabelError if no domain has MIN_QUERIES judged queries with a relevant document, no setting is within the
    budget, or tuning was stopped before the present setting had been tried.
    """
    answered = {domain: [query for query in queries if query.relevance] for domain, queries in sorted(judged.items())}
    answered = {domain: queries for domain, queries in answered.items() if len(queries) >= MIN_QUERIES}
    if not answered:
        raise LabelError(
            f"no domain has {MIN_QUERIES} judged queries with a relevant document, which cross-validation needs: label"
            " more queries, or give labels with --labels"
        )
    trial_runner = _TrialRunner(engine, weights, should_stop)
    present = Setting(engine.manifest.search, engine.manifest.adaptation)
    settings = candidate_settings(present, weights, engine.ef_search)
    trials: list[Trial] = []
    for setting in settings:
        trial = yield from trial_runner.run(setting, answered, Progress(len(trials), len(settings)))
        if trial is None:
            break
        trials.append(trial)
    if not trials:
        raise LabelError(
            "tuning was stopped before the present setting had been tried, with which the others are compared: allow"
            " more time"
        )
    yield _choose(trials, budget, domains=len(answered), untried=len(settings) - len(trials))


class _TrialRunner:
    """Tries settings on one index. Each query is encoded and matched by keywords only once."""

    def __init__(self, engine: SearchEngine, weights: Weights | None, should_stop: Callable[[], bool]) -> None:
        self._engine = engine
        self._weights = weights
        self._should_stop = should_stop
        self._encode = cache(engine.encode_label)
        self._match = cache(engine.match_label)

    def run(
        self, setting: Setting, judged: Mapping[str, Sequence[JudgedQuery]], before: Progress
    ) -> Generator[Progress, None, Trial | None]:
        """Cross-validate one setting; None if it was stopped. Yields the progress before each fold, from `before`."""
        engine = self._engine_with(setting)
        values: list[float] = []
        seconds: list[float] = []
        kib: list[float] = []
        for number, queries in enumerate(judged.values()):
            fold_of = np.random.default_rng(len(queries)).permutation(len(queries)) % FOLDS
            ndcg = np.empty(len(queries))
            for fold in range(FOLDS):
                yield replace(before, done=before.done + (number + fold / FOLDS) / len(judged))
                if self._should_stop():
                    return None
                state = self._adapt(engine, [queries[index] for index in np.flatnonzero(fold_of != fold).tolist()])
                kib.append(0.0 if state is None else state.nbytes / 1024)
                engine.adapter = Adapter(engine.adapter.basis, {TRIAL_DOMAIN: DomainAdapter(state)})
                for index in np.flatnonzero(fold_of == fold).tolist():
                    if self._should_stop():
                        return None
                    started = perf_counter()
                    doc_ids = self._rank(engine, queries[index])
                    seconds.append(perf_counter() - started)
                    ndcg[index] = ranking_ndcg(doc_ids, queries[index])
            values += ndcg.tolist()
        return Trial(setting, np.array(values), 1000 * median(seconds), median(kib))

    def _engine_with(self, setting: Setting) -> SearchEngine:
        """Return an engine with the setting and without domains, over the same encoder and corpus."""
        return SearchEngine(
            encoder=self._engine.encoder,
            adapter=Adapter(self._engine.adapter.basis, {}),
            corpus=self._engine.corpus,
            manifest=self._engine.manifest.model_copy(
                update={"search": setting.search, "adaptation": setting.adaptation}
            ),
        )

    def _adapt(self, engine: SearchEngine, judged: Sequence[JudgedQuery]) -> DomainState | None:
        """Return the state that the judged queries give, None for keyword search."""
        if engine.manifest.search.mode is Mode.KEYWORD:
            return None
        adapt_support = None if self._weights is None else self._weights.adapt
        return adapt(engine, adapt_support, judged, encode=self._encode, match=self._match).state

    def _rank(self, engine: SearchEngine, judged: JudgedQuery) -> list[str]:
        """Return the ids of the hits, best first; for a partially judged query, only those that were judged."""
        query = Query(judged.text, FUSION_DEPTH if judged.partially_judged else DEPTH, domain=TRIAL_DOMAIN)
        [outcome] = engine.search([query], stages=_CachedVectors(engine, self._encode))
        doc_ids = [hit.id for hit in outcome.hits]
        if not judged.partially_judged:
            return doc_ids
        return [doc_id for doc_id in doc_ids if doc_id in judged.relevance or doc_id in judged.negatives]


@dataclass(frozen=True, slots=True)
class _CachedVectors:
    """The encoder's stages of a search, with cached query vectors."""

    engine: SearchEngine
    encode: Encode

    def check_deadline(self) -> None:
        """Do nothing: tuning has no deadline."""

    def retrieve(self, queries: Sequence[Query]) -> list[DenseResult]:
        return self.engine.search_encoded(queries, [self.encode(query.text) for query in queries])

    def token_attributions(self, pages: Sequence[ResultPage]) -> list[Attributions | None]:
        return self.engine.token_attributions(pages)


def _choose(trials: Sequence[Trial], budget: Budget, *, domains: int, untried: int) -> TuningResult:
    """Choose a trial within the budget. The first one is of the present setting; domains, untried: as in the result."""
    affordable = [trial for trial in trials if trial.within(budget)]
    if not affordable:
        cheapest = min(trials, key=lambda trial: (trial.search_ms, trial.domain_kib))
        raise LabelError(
            f"no setting is within {budget.search_ms:g} ms per search and {budget.domain_kib:g} KiB per domain; the"
            f" cheapest, {cheapest.setting.search}, needs {cheapest.search_ms:.2f} ms and {cheapest.domain_kib:.0f}"
            " KiB: allow more"
        )
    present = trials[0]
    values = np.stack([trial.values for trial in affordable], axis=1)
    baseline = 0 if affordable[0] is present else int(np.argmax(values.mean(axis=0)))
    rng = np.random.default_rng(0)
    chosen = reality_check(values, baseline, rng=rng)
    improvement, low, high = bias_corrected_cv(values, baseline, before=present.values, rng=rng)
    return TuningResult(
        trials,
        untried,
        affordable[chosen],
        improvement,
        low,
        high,
        queries=len(values),
        domains=domains,
    )
