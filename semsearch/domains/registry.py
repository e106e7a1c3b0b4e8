"""The domains of one open index: adapts them, restores earlier versions and sets parents while searches continue.

A change is on disk before searches use it. The engine's adapter is replaced as a whole, so a search uses the state
before or after a change. Does not depend on HTTP, or on when to adapt.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semsearch.adapters.adapter import Adapter
from semsearch.adapters.state import DomainState
from semsearch.adapters.weights import Weights
from semsearch.domains.judgments import JudgedQuery, by_time, judged_queries
from semsearch.domains.position_bias import PositionBias, estimate_bias
from semsearch.domains.recommending import Recommendations, recommend
from semsearch.domains.suggesting import MAX_SUGGESTED, SuggestedQuery, Suggestions, suggest, suggest_results
from semsearch.domains.versions import VersionHistory
from semsearch.errors import QueryError, StateError, WeightsError
from semsearch.search.engine import SearchEngine
from semsearch.storage.domains import DomainRecord, DomainStore, Version
from semsearch.storage.kept_queries import KeptQueries, KeptQuery, KeptSummary
from semsearch.storage.labels import EntryFilter, LabelLog
from semsearch.types import Click, Label, Vectors

# it imports torch, which takes a second: only when a domain is adapted
if TYPE_CHECKING:
    from semsearch.domains.adapting import Adaptation, AdaptFunction, Encode


def adapt_function(weights: Weights, engine: SearchEngine) -> tuple[AdaptFunction | None, str]:
    """Return the function that adapts the domains of an engine's index, and an empty reason.

    If the weights were learned for another encoder, return None and the reason; judged queries are then memorized only.
    Raises WeightsError if the index's settings name a learner that the weights do not have.
    """
    try:
        weights.check_dimension(engine.adapter.basis.dimension)
    except WeightsError as error:
        return None, str(error)
    weights.candidate_indices(engine.manifest.adaptation.learners or ())
    return weights.adapt, ""


CACHED_QUERIES = 4096
"""Labelled queries that are cached: 1.5 KiB each for a vector of 384 dimensions, and 2.4 KiB for keyword matches."""

MAX_CANDIDATES = 300
"""Queries without a label, the most frequent ones, that are considered for a suggestion: some have to be encoded."""
MAX_LABELLED = 200
"""Labelled queries, the latest ones, that suggestions are to be unlike."""


@dataclass(frozen=True, slots=True)
class DomainStatus:
    """The current version of a domain, and the numbers of its log entries."""

    record: DomainRecord
    labels: int
    clicks: int
    pending: int
    """Number of log entries that the current version does not take into account."""
    kept: KeptSummary
    """Queries that a server kept; none if they are damaged."""


class DomainRegistry:
    """The domains of one index, its log of labels and clicks, and the engine that serves them."""

    def __init__(
        self,
        index: Path,
        engine: SearchEngine,
        adapt_support: AdaptFunction | None,
        *,
        encode: Encode | None = None,
        bias: PositionBias | None = None,
    ) -> None:
        """Manage the domains of the index in the folder `index`, which `engine` has open.

        adapt_support: `Weights.adapt`, in this process or another one; None if there are no weights for this encoder:
        judged queries are then memorized only.
        encode: encodes a labelled query; by default `engine.encode_label`. A server passes one that uses its batcher.
        bias: position bias of clicks; by default it is estimated from the index's log.
        """
        self.engine = engine
        self.folder = index
        self.log = LabelLog(index)
        record = engine.manifest.encoder
        self.store = DomainStore(index, encoder_sha256=record.weights_sha256, dimension=record.dimension)
        self.kept = KeptQueries(index, dimension=record.dimension, encoder_sha256=record.weights_sha256)
        """Queries that a server kept, if it was allowed to."""
        self.history = VersionHistory(self.store, self.log)
        self._adapt_support = adapt_support
        self._bias = bias
        self._encode = lru_cache(CACHED_QUERIES)(encode or engine.encode_label)
        self._match = lru_cache(CACHED_QUERIES)(engine.match_label)
        self._lock = threading.RLock()
        self._revision = self.store.revision()
        self._children = self.store.children()

    def adapt(self, domain: str) -> Version:
        """Adapt a domain to its log, serve the result as a new version, and return that.

        If the log has no new entries and the state is the same, the current version is returned. A domain that does not
        exist is not created: version 0 is returned. Raises what `decide` raises.
        """
        with self._lock:
            if not self.exists(domain):
                return Version(
                    number=0,
                    at=datetime.now(UTC),
                    event="declined",
                    explanation=f"Not adapted: the domain {domain!r} has no labels or clicks.",
                    state=None,
                    learner="none",
                )
            last_entry = self.log.last_number(domain)
            outcome, parent = self.decide(domain)
            current = self.store.record(domain).current
            if current is not None and current.event in {"adapted", "declined"} and current.last_entry == last_entry:
                try:
                    if _equal_states(self.store.state(domain, current), outcome.state):
                        return current
                except StateError:
                    pass  # the current state is damaged: the new version replaces it
            version = self.store.append(
                domain,
                "declined" if outcome.state is None else "adapted",
                explanation=outcome.explanation,
                state=outcome.state,
                learner=outcome.learner,
                labels=outcome.labels,
                last_entry=last_entry,
                parent=parent if outcome.state is not None else None,
                verdict=outcome.as_json(),
            )
            self._serve(domain)
        return version

    def exists(self, domain: str) -> bool:
        """Whether a domain has a record, or ever had a label or a click. Raises StateError as `DomainStore.record`."""
        record = self.store.record(domain)
        return bool(record.versions or record.parent is not None or self.log.last_number(domain))

    def decide(self, domain: str, more: Sequence[Label | Click] = ()) -> tuple[Adaptation, str | None]:
        """Compute the adaptation of a domain, and the `DOMAIN/VERSION` it starts from; nothing is changed.

        more: labels and clicks to use in addition to those of the log. Raises LabelError, WeightsError, StorageError,
        and StateError if the domain's record is damaged.
        """
        from semsearch.domains.adapting import adapt

        judged = self.judged_queries(domain, more)
        parent_domain = self.store.record(domain).parent
        parent = None if parent_domain is None else self.store.domain_adapter(parent_domain)
        if parent is None or parent.state is None:
            return adapt(self.engine, self._adapt_support, judged, encode=self._encode, match=self._match), None
        outcome = adapt(
            self.engine, self._adapt_support, judged, encode=self._encode, match=self._match, parent=parent.state
        )
        return outcome, f"{parent.domain}/{parent.version}"

    def judged_queries(self, domain: str, more: Sequence[Label | Click] = ()) -> list[JudgedQuery]:
        """Return the judged queries of a domain, from the log and from `more`."""
        entry_filter = EntryFilter(domain=domain)
        clicks = [click for _, click in self.log.clicks(entry_filter)]
        clicks += [entry for entry in more if isinstance(entry, Click)]
        labels = [label for _, label in self.log.labels(entry_filter)]
        labels += [entry for entry in more if isinstance(entry, Label)]
        # estimating the bias reads the clicks of all domains: skipped without clicks
        return judged_queries(labels, clicks, self.bias() if clicks else PositionBias())

    def bias(self) -> PositionBias:
        """Return the position bias of clicks: as set, or estimated from the clicks of all domains."""
        return self._bias or estimate_bias([click for _, click in self.log.clicks(EntryFilter())])

    def kept_vectors(self, domain: str) -> Vectors:
        """Return the vectors of the domain's kept queries, as `KeptQueries.vectors`; none if they are damaged."""
        _, vectors, _ = self._read_kept(domain)
        return vectors

    def rollback(self, domain: str, to: int | None = None) -> Version:
        """Restore an earlier version, as `VersionHistory.rollback`, and serve it."""
        with self._lock:
            version = self.history.rollback(domain, to)
            self._serve(domain)
        return version

    def reset(self, domain: str) -> Version | None:
        """Remove a domain's state, as `VersionHistory.reset`, and serve the domain without it."""
        with self._lock:
            version = self.history.reset(domain)
            self._serve(domain)
        return version

    def import_state(self, domain: str, content: bytes) -> Version:
        """Import an exported state, as `VersionHistory.import_state`, and serve it."""
        with self._lock:
            version = self.history.import_state(domain, content)
            self._serve(domain)
        return version

    def recommend(self, domain: str, k: int, *, diversity: float) -> Recommendations | None:
        """Recommend at most k documents to the user whose domain this is; None if no document they like is known.

        A user likes documents that they clicked or labelled as relevant. Documents that they labelled, clicked or were
        shown are not recommended. diversity: as in `domains.recommending.recommend`.
        """
        labels = [label for _, label in self.log.labels(EntryFilter(domain=domain))]
        clicks = [click for _, click in self.log.clicks(EntryFilter(domain=domain))]
        relevance: dict[str, float] = {}
        for label in by_time(labels):
            relevance.pop(label.document, None)  # the latest label decides, also on the order
            relevance[label.document] = label.relevance
        clicked = [click.document for click in clicks if click.document is not None and click.document not in relevance]
        seen = {*relevance, *clicked, *(document for click in clicks for document in click.shown)}
        liked = [*dict.fromkeys(clicked), *(document for document, value in relevance.items() if value > 0)]
        like_counts = self.log.like_counts(excluded_domain=domain)
        return recommend(self.engine, liked, seen=seen, like_counts=like_counts, k=k, diversity=diversity)

    def suggest(self, domain: str, k: int = 5, *, results: int = 5, query: str | None = None) -> Suggestions:
        """Suggest at most k queries to label next, and for each at most `results` results to mark.

        Of the queries that a server kept or that were clicked for, those without a label; see `suggesting.suggest`.
        Damaged kept queries are ignored. query: suggest results of this query only, those without a label.

        Raises QueryError if k or `results` is not from 1 to MAX_SUGGESTED or the query is empty, StateError for a name
        that no domain can have, StorageError if the log cannot be read, EncoderError.
        """
        for name, value in (("k", k), ("results", results)):
            if not 1 <= value <= MAX_SUGGESTED:
                raise QueryError(f"{name} is {value}: ask for 1 to {MAX_SUGGESTED}", field=name)
        if query is not None and not query.strip():
            raise QueryError("the query is empty: give at least one word", field="query")
        self.store.check_name(domain)
        kept, rows, damaged = self._read_kept(domain)
        vectors = {query.text: row for query, row in zip(kept, rows, strict=True)}
        counts = self.log.query_counts(domain)
        labelled = [text for text, labels, _ in counts if labels]
        times_asked = {query.text: query.count for query in kept}
        for text, _, clicks in counts:
            if clicks:
                times_asked[text] = times_asked.get(text, 0) + clicks
        if query is not None:
            return self._suggest_results(domain, query.strip(), times_asked.get(query.strip(), 0), results)
        known = set(labelled)
        unlabelled = [text for text in times_asked if text not in known]
        unlabelled = sorted(unlabelled, key=lambda text: -times_asked[text])[:MAX_CANDIDATES]
        if not unlabelled:
            return Suggestions((), _no_suggestion(domain, len(times_asked), damaged=damaged))

        def encoded(texts: Sequence[str]) -> Vectors:
            of_texts = [vectors[text] if text in vectors else self._encode(text).vector for text in texts]
            return np.array(of_texts, np.float32).reshape(len(texts), self.store.dimension)

        queries = suggest(
            self.engine,
            domain,
            {text: times_asked[text] for text in unlabelled},
            encoded(unlabelled),
            encoded(labelled[:MAX_LABELLED]),
            k=k,
            results=results,
        )
        reason = "" if queries else _no_suggestion(domain, len(times_asked), damaged=damaged)
        return Suggestions(tuple(queries), reason)

    def _suggest_results(self, domain: str, query: str, times_asked: int, results: int) -> Suggestions:
        labels = self.log.labels(EntryFilter(domain=domain, query=query))
        marked = {label.document for _, label in labels}
        hits = suggest_results(self.engine, domain, query, self._encode(query).vector, marked, results=results)
        if not hits:
            return Suggestions((), f"every result that the rankings of {query[:200]!r} begin with is labelled")
        return Suggestions((SuggestedQuery(query, times_asked, hits),))

    def set_parent(self, domain: str, parent: str | None) -> None:
        """Set the domain that a domain inherits from, or None; its next adaptation starts from the parent's state.

        Raises StateError if the domain would be its own ancestor.
        """
        with self._lock:
            self.store.set_parent(domain, parent)
            self._children = self.store.children()
            self._serve(domain)

    def status(self, domain: str) -> DomainStatus:
        """Return the status of a domain, also of an unknown one. Raises StateError for a damaged record."""
        return self._status(domain, self.log.counts(domain))

    def all_statuses(self) -> list[DomainStatus]:
        """Return the status of every domain with labels, clicks, kept queries or a record, without damaged ones.

        Sorted by name.
        """
        counts = self.log.counts()
        statuses = []
        for domain in sorted({*self.store.names(), *self.kept.names(), *counts}):
            try:
                statuses.append(self._status(domain, counts))
            except StateError:
                continue
        return statuses

    def descendants(self, domain: str) -> list[str]:
        """Return the descendants of a domain that have a state of their own, nearest first.

        Their states started from an earlier state of this domain. Domains whose record is damaged are left out.
        """
        adapted = []
        for name in self._with_descendants(domain)[1:]:
            with suppress(StateError):
                current = self.store.record(name).current
                if current is not None and current.state is not None:
                    adapted.append(name)
        return adapted

    def switch_engine(self, engine: SearchEngine) -> None:
        """Replace the engine with another one of the same index, and have it serve the same domain states."""
        with self._lock:
            engine.adapter = self.engine.adapter.with_basis(engine.adapter.basis)
            self.engine = engine
            self._match = lru_cache(CACHED_QUERIES)(engine.match_label)

    def refresh(self) -> None:
        """Serve the changes that another process made, if any."""
        with self._lock:
            revision = self.store.revision()
            if revision == self._revision:
                return
            adapters = self.store.domain_adapters(self.store.names())
            self.engine.adapter = Adapter(self.engine.adapter.basis, adapters)
            self._children = self.store.children()
            self._revision = revision

    def prefetch(self, text: str) -> None:
        """Cache the vector and the keyword matches of a labelled query, which the next adaptation needs."""
        if text.strip():
            with self._lock:
                self._encode(text.strip())
                self._match(text.strip())

    def close(self) -> None:
        """Close the log."""
        self.log.close()

    def _serve(self, domain: str) -> None:
        """Serve a domain, and those that inherit from it, with their states on disk."""
        self.engine.adapter = self.engine.adapter.updated(self.store.domain_adapters(self._with_descendants(domain)))
        self._revision = self.store.revision()

    def _with_descendants(self, domain: str) -> list[str]:
        """Return the domain and all that inherit from it, nearest first."""
        names = [domain]
        for name in names:
            names += [child for child in self._children.get(name, []) if child not in names]
        return names

    def _read_kept(self, domain: str) -> tuple[list[KeptQuery], Vectors, bool]:
        """Return `KeptQueries.read`, and whether the file is damaged: it then counts as empty."""
        try:
            return *self.kept.read(domain), False
        except StateError:
            return [], np.zeros((0, self.store.dimension), np.float32), True

    def _status(self, domain: str, counts: Mapping[str, Mapping[str, int]]) -> DomainStatus:
        """Return the status of a domain. counts: domain → kind of entry → number."""
        entries = counts.get(domain, {"label": 0, "click": 0})
        record = self.store.record(domain)
        last_entry = record.current.last_entry if record.current is not None else 0
        try:
            kept = self.kept.summary(domain)
        except StateError:
            kept = KeptSummary(0, None)
        pending = self.log.count_since(domain, last_entry)
        return DomainStatus(record, entries["label"], entries["click"], pending, kept)


def _no_suggestion(domain: str, queries: int, *, damaged: bool) -> str:
    """Why no query is suggested. queries: number of those that were kept or clicked for."""
    if damaged:
        return f"the kept queries of {domain!r} cannot be used: `semsearch domains list` says why"
    if queries:
        return f"all {queries:,} known queries of {domain!r} are labelled, or nearly the same as a labelled one"
    return (
        f"no query of {domain!r} is known: start the server with --keep-queries DAYS, which keeps the searches of"
        " named domains that have a label or a parent, or import clicks with `semsearch labels import`"
    )


def _equal_states(first: DomainState | None, second: DomainState | None) -> bool:
    if first is None or second is None:
        return first is second
    return first.to_bytes({}) == second.to_bytes({})
