"""A domain's versions: returned to, put aside, given away and taken in. Does not depend on searches that go on."""

from __future__ import annotations

import tempfile
from pathlib import Path

from semsearch.adapters.state import DomainState
from semsearch.errors import StateError
from semsearch.storage.domains import DomainStore, Version
from semsearch.storage.labels import LabelLog


class VersionHistory:
    """The versions of one index's domains, beside the log they were made from."""

    def __init__(self, store: DomainStore, log: LabelLog, *, dimension: int) -> None:
        """Those in `store`, whose states have so many dimensions."""
        self._store = store
        self._log = log
        self._dimension = dimension

    def rollback(self, domain: str, to: int | None = None) -> Version:
        """Serve an earlier version again, by default the one before the present; it becomes a new version.

        to: its number; 0 is before anything was learned. Raises StateError where there is no such version or its state
        is not kept any more.
        """
        record = self._store.record(domain)
        if record.current is None:
            raise StateError(f"the domain {domain!r} has no version to return from")
        to = record.number - 1 if to is None else to
        found = next((one for one in record.versions if one.number == to), None)
        if to != 0 and (found is None or to == record.number):
            raise StateError(f"the domain {domain!r} has no earlier version {to}: see its history")
        state = None if found is None else self._store.state(domain, found)
        if found is not None and found.learner != "none" and state is None:
            raise StateError(f"version {to} of {domain!r} is not kept any more: adapt the domain again")
        return self._store.append(
            domain,
            "rolled back",
            explanation=f"Returned to version {to}{'' if found is None else f': {found.explanation}'}",
            state=state,
            learner="none" if found is None else found.learner,
            labels=0 if found is None else found.labels,
            # what has been labelled since does not adapt it at once again
            last_entry=self._log.last_number(domain),
            restored=to,
        )

    def reset(self, domain: str) -> Version | None:
        """Serve the domain with nothing of its own; its labels and its versions stay. None where it had nothing."""
        current = self._store.record(domain).current
        if current is None or current.state is None:
            return None
        through = self._log.last_number(domain)
        words = "Reset: what was learned is not used."
        return self._store.append(domain, "reset", explanation=words, state=None, last_entry=through)

    def export_state(self, domain: str) -> bytes:
        """The state that serves the domain, as a safetensors file. Raises StateError where it has none of its own."""
        record = self._store.record(domain)
        state = None if record.current is None else self._store.state(domain, record.current)
        if record.current is None or state is None:
            raise StateError(f"the domain {domain!r} has no state of its own to export")
        about = record.current.model_dump(mode="json", include={"learner", "explanation", "labels", "verdict", "at"})
        return state.to_bytes({"encoder_sha256": record.encoder_sha256, "domain": domain, **about})

    def import_state(self, domain: str, content: bytes) -> Version:
        """Serve the domain with an exported state. Raises StateError where it is none, or of another encoder."""
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
            file.write(content)
            file.flush()
            try:
                state, about = DomainState.open(Path(file.name))
            except StateError as error:
                raise StateError("what was given is not a domain state: give a file that an export wrote") from error
        encoder = self._store.record(domain).encoder_sha256
        if about.get("encoder_sha256") != encoder or state.dimension != self._dimension:
            raise StateError("the state was learned with another encoder than this index was built with")
        labels = about.get("labels")
        explanation = str(about.get("explanation", about.get("words")))  # its name in semsearch 0.1
        return self._store.append(
            domain,
            "imported",
            explanation=f"Imported from domain {str(about.get('domain', '?'))[:200]!r}: {explanation[:500]}",
            state=state,
            learner=str(about.get("learner", "unknown"))[:50],
            labels=labels if isinstance(labels, int) and labels >= 0 else 0,
            last_entry=self._log.last_number(domain),
        )
