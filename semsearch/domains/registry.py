"""The domains of one open index: adapted, returned to earlier versions, given parents, while searches go on.

Every change is on disk before searches see it, and they see it whole: the engine's adapter is replaced between two
batches. Does not depend on HTTP or when to adapt.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from semsearch.adapters.adapter import Adapter
from semsearch.adapters.state import DomainState
from semsearch.adapters.weights import Weights
from semsearch.domains.adapting import Adaptation, AdaptFunction, Encode, adapt
from semsearch.domains.judgments import JudgedQuery, judged_queries
from semsearch.domains.position_bias import PositionBias, estimate_bias
from semsearch.domains.recommending import Recommendations, recommend
from semsearch.domains.versions import VersionHistory
from semsearch.errors import StateError, WeightsError
from semsearch.search.engine import SearchEngine
from semsearch.storage.domains import DomainRecord, DomainStore, Version
from semsearch.storage.labels import EntryFilter, LabelLog
from semsearch.types import Click, Label


def adapt_function(weights: Weights, engine: SearchEngine) -> tuple[AdaptFunction | None, str]:
    """What adapts the domains of an engine's index; where the weights were learned for another encoder, None and why.

    Then judged queries are memorized at most. Raises WeightsError where the index asks for a learner that the weights
    do not have.
    """
    try:
        weights.check_basis(engine.adapter.basis)
    except WeightsError as error:
        return None, str(error)
    weights.candidate_indices(engine.manifest.adaptation.learners or ())
    return weights.adapt, ""


REMEMBERED = 4096
"""Labelled queries that are kept in memory: 1.5 KiB each for a vector of 384 dimensions, 2.4 for what words find."""


@dataclass(frozen=True, slots=True)
class DomainStatus:
    """A domain as it stands."""

    record: DomainRecord
    labels: int
    clicks: int
    pending: int
    """Entries of the log that the current version does not take into account."""


class DomainRegistry:
    """One index's domains, its log of labels, and the engine that serves them."""

    def __init__(
        self,
        index: Path,
        engine: SearchEngine,
        solve: AdaptFunction | None,
        *,
        encode: Encode | None = None,
        bias: PositionBias | None = None,
    ) -> None:
        """The domains of the index in this folder, which `engine` has open.

        solve: `Weights.adapt`, here or in another process; None where nothing was learned beforehand for this encoder:
        then judged queries are remembered at most.
        encode: by default the engine's own; a server gives one that goes through its batcher.
        bias: of clicks; by default it is estimated from the index's own log.
        """
        self.engine = engine
        self.log = LabelLog(index)
        self.store = DomainStore(index, encoder_sha256=engine.manifest.encoder.weights_sha256)
        self.history = VersionHistory(self.store, self.log, dimension=engine.adapter.basis.dimension)
        self._solve = solve
        self._bias = bias
        self._encoded = lru_cache(REMEMBERED)(encode or engine.encode_label)
        self._matched = lru_cache(REMEMBERED)(engine.match_label)
        self._changing = threading.RLock()
        self._stamp = self.store.revision()
        self._children = self.store.children()

    def adapt(self, domain: str) -> Version:
        """Decide anew what the domain is served with, from all that its log holds, and serve that.

        Where nothing is new and the decision is the same, no version is made. Raises what `decide` raises.
        """
        with self._changing:
            through = self.log.last_number(domain)
            outcome, parent = self.decide(domain)
            current = self.store.record(domain).current
            if current is not None and current.event in {"adapted", "declined"} and current.last_entry == through:
                try:
                    if _same(self.store.state(domain, current), outcome.state):
                        return current
                except StateError:
                    pass  # damaged: the new version takes its place
            version = self.store.append(
                domain,
                "declined" if outcome.state is None else "adapted",
                explanation=outcome.explanation,
                state=outcome.state,
                learner=outcome.learner,
                labels=outcome.labels,
                last_entry=through,
                parent=parent if outcome.state is not None else None,
                verdict=outcome.as_json(),
            )
            self._serve(domain)
        return version

    def decide(self, domain: str, more: Sequence[Label] = ()) -> tuple[Adaptation, str | None]:
        """What adapting would lead to, and the `DOMAIN/VERSION` it would start from; nothing changes.

        more: labels to take into account beside those of the log. Raises LabelError, WeightsError, StorageError, and
        StateError where the domain's record is damaged.
        """
        judged = self.judged_queries(domain, more)
        above = self.store.record(domain).parent
        parent = None if above is None else self.store.domain_adapter(above)
        if parent is None or parent.state is None:
            return adapt(self.engine, self._solve, judged, encode=self._encoded, match=self._matched), None
        outcome = adapt(
            self.engine, self._solve, judged, encode=self._encoded, match=self._matched, parent=parent.state
        )
        return outcome, f"{parent.domain}/{parent.version}"

    def judged_queries(self, domain: str, more: Sequence[Label | Click] = ()) -> list[JudgedQuery]:
        """What the log says about each query of the domain, and what `more` says beside it."""
        chosen = EntryFilter(domain=domain)
        clicks = [click for _, click in self.log.clicks(chosen)]
        clicks += [entry for entry in more if isinstance(entry, Click)]
        labels = [label for _, label in self.log.labels(chosen)]
        labels += [entry for entry in more if isinstance(entry, Label)]
        # the bias is that of all domains' clicks, and takes its time
        return judged_queries(labels, clicks, self.bias() if clicks else PositionBias())

    def bias(self) -> PositionBias:
        """The position bias of clicks: as it was set, or as the log of all domains shows it."""
        return self._bias or estimate_bias([click for _, click in self.log.clicks(EntryFilter())])

    def rollback(self, domain: str, to: int | None = None) -> Version:
        """As `History.rollback`, and searches see it."""
        with self._changing:
            version = self.history.rollback(domain, to)
            self._serve(domain)
        return version

    def reset(self, domain: str) -> Version | None:
        """As `History.reset`, and searches see it."""
        with self._changing:
            version = self.history.reset(domain)
            self._serve(domain)
        return version

    def import_state(self, domain: str, content: bytes) -> Version:
        """As `History.import_state`, and searches see it."""
        with self._changing:
            version = self.history.import_state(domain, content)
            self._serve(domain)
        return version

    def recommend(self, domain: str, k: int, *, diversity: float) -> Recommendations | None:
        """Documents for the person whose domain this is, from what they labelled or clicked; None where nothing is
        known of what they like. What they judged, clicked or were shown is left out."""
        labels = [label for _, label in self.log.labels(EntryFilter(domain=domain))]
        clicks = [click for _, click in self.log.clicks(EntryFilter(domain=domain))]
        last: dict[str, float] = {}
        for label in labels:
            last.pop(label.document, None)
            last[label.document] = label.relevance
        clicked = [click.document for click in clicks if click.document is not None and click.document not in last]
        seen = {*last, *clicked, *(one for click in clicks for one in click.shown)}
        liked = [*dict.fromkeys(clicked), *(document for document, gain in last.items() if gain > 0)]
        others = self.log.like_counts(excluded_domain=domain)
        return recommend(self.engine, liked, seen=seen, others=others, k=k, diversity=diversity)

    def set_parent(self, domain: str, parent: str | None) -> None:
        """Have the domain inherit from another one, or from none; its next adaptation starts from there.

        Raises StateError where that makes a circle.
        """
        with self._changing:
            self.store.set_parent(domain, parent)
            self._children = self.store.children()
            self._serve(domain)

    def status(self, domain: str) -> DomainStatus:
        """The domain as it stands, also one of which nothing is known. Raises StateError for a damaged record."""
        counts = self.log.counts(domain).get(domain, {"label": 0, "click": 0})
        return self._standing(domain, counts)

    def all_statuses(self) -> list[DomainStatus]:
        """Every domain that was labelled, adapted or given a parent, by name; damaged ones are left out."""
        counts = self.log.counts()
        found = []
        for domain in sorted({*self.store.names(), *counts}):
            try:
                found.append(self._standing(domain, counts.get(domain, {"label": 0, "click": 0})))
            except StateError:
                continue
        return found

    def descendants(self, domain: str) -> list[str]:
        """Domains below this one that have a state of their own, nearest first: they started from what it was."""
        found = []
        for child in self._line(domain)[1:]:
            current = self.store.record(child).current
            if current is not None and current.state is not None:
                found.append(child)
        return found

    def switch_engine(self, engine: SearchEngine) -> None:
        """Go on with another engine of the same index, which serves its domains as this one does."""
        with self._changing:
            engine.adapter = self.engine.adapter.with_basis(engine.adapter.basis)
            self.engine = engine
            self._matched = lru_cache(REMEMBERED)(engine.match_label)

    def refresh(self) -> None:
        """Take up what another process changed, if anything."""
        with self._changing:
            stamp = self.store.revision()
            if stamp == self._stamp:
                return
            servings = self.store.domain_adapters(self.store.names())
            self.engine.adapter = Adapter(self.engine.adapter.basis, servings)
            self._children = self.store.children()
            self._stamp = stamp

    def close(self) -> None:
        """Close the log."""
        self.log.close()

    def _serve(self, domain: str) -> None:
        """Have searches see the domain, and what inherits from it, as they stand on disk."""
        self.engine.adapter = self.engine.adapter.updated(self.store.domain_adapters(self._line(domain)))
        self._stamp = self.store.revision()

    def _line(self, domain: str) -> list[str]:
        """The domain and all that inherit from it, nearest first."""
        line = [domain]
        for name in line:
            line += [child for child in self._children.get(name, []) if child not in line]
        return line

    def _standing(self, domain: str, counts: dict[str, int]) -> DomainStatus:
        record = self.store.record(domain)
        through = record.current.last_entry if record.current is not None else 0
        return DomainStatus(record, counts["label"], counts["click"], self.log.count_since(domain, through))

    def prefetch(self, text: str) -> None:
        """Have a labelled query's vector, and what its words find, in memory before they are needed."""
        if text.strip():
            with self._changing:
                self._encoded(text.strip())
                self._matched(text.strip())


def _same(one: DomainState | None, other: DomainState | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.to_bytes({}) == other.to_bytes({})
