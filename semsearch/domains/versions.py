"""Rolls back, resets, exports and imports the versions of domains. Does not depend on an open engine."""

from __future__ import annotations

import tempfile
from pathlib import Path

from semsearch.adapters.state import DomainState
from semsearch.errors import StateError
from semsearch.storage.domains import DomainStore, Version
from semsearch.storage.labels import LabelLog


class VersionHistory:
    """The versions of one index's domains."""

    def __init__(self, store: DomainStore, log: LabelLog) -> None:
        """Tie a store to the log that its versions were made from."""
        self._store = store
        self._log = log

    def rollback(self, domain: str, to: int | None = None) -> Version:
        """Restore an earlier version of a domain, as a new version, and return that.

        to: number of the earlier version, by default the one before the current version; 0 is the domain without an
        adaptation. Raises StateError if there is no such version, or its state is no longer kept.
        """
        record = self._store.record(domain)
        if record.current is None:
            raise StateError(f"the domain {domain!r} has no version to return from: adapt it first")
        to = record.number - 1 if to is None else to
        earlier = next((version for version in record.versions if version.number == to), None)
        if to != 0 and (earlier is None or to == record.number):
            raise StateError(f"the domain {domain!r} has no earlier version {to}: see its history")
        state = None if earlier is None else self._store.state(domain, earlier)
        if earlier is not None and earlier.learner != "none" and state is None:
            raise StateError(f"version {to} of {domain!r} is no longer kept: adapt the domain again")
        return self._store.append(
            domain,
            "rolled back",
            explanation=f"Returned to version {to}{'' if earlier is None else f': {earlier.explanation}'}",
            state=state,
            learner="none" if earlier is None else earlier.learner,
            labels=0 if earlier is None else earlier.labels,
            # entries logged until now must not trigger an adaptation, which would undo the rollback
            last_entry=self._log.last_number(domain),
            restored=to,
        )

    def reset(self, domain: str) -> Version | None:
        """Remove a domain's state, as a new version, and return that; None if it has no state.

        Its labels and earlier versions are kept.
        """
        current = self._store.record(domain).current
        if current is None or current.state is None:
            return None
        return self._store.append(
            domain,
            "reset",
            explanation="Reset: what was learned is not used.",
            state=None,
            last_entry=self._log.last_number(domain),
        )

    def export_state(self, domain: str) -> bytes:
        """Return a domain's state as the content of a safetensors file. Raises StateError if it has none of its own."""
        record = self._store.record(domain)
        state = None if record.current is None else self._store.state(domain, record.current)
        if record.current is None or state is None:
            raise StateError(f"the domain {domain!r} has no state of its own to export: adapt it first")
        metadata = record.current.model_dump(mode="json", include={"learner", "explanation", "labels", "verdict", "at"})
        return state.to_bytes({"encoder_sha256": record.encoder_sha256, "domain": domain, **metadata})

    def import_state(self, domain: str, content: bytes) -> Version:
        """Import an exported state into a domain, as a new version, and return that.

        content: a result of `export_state`. Raises StateError if it is not a domain state, or if its encoder is not the
        index's.
        """
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
            file.write(content)
            file.flush()
            try:
                state, metadata = DomainState.open(Path(file.name))
            except StateError as error:
                raise StateError("this is not a domain state: give a file that an export wrote") from error
        encoder = self._store.record(domain).encoder_sha256
        if metadata.get("encoder_sha256") != encoder or state.dimension != self._store.dimension:
            raise StateError("the state was learned with another encoder than this index was built with")
        labels = metadata.get("labels")
        # `words` is the field's name in files of semsearch 0.1
        explanation = str(metadata.get("explanation", metadata.get("words")))
        return self._store.append(
            domain,
            "imported",
            explanation=f"Imported from domain {str(metadata.get('domain', '?'))[:200]!r}: {explanation[:500]}",
            state=state,
            learner=str(metadata.get("learner", "unknown"))[:50],
            labels=labels if isinstance(labels, int) and labels >= 0 else 0,
            last_entry=self._log.last_number(domain),
        )
