"""The learned states of an index's domains, by version, in the index's folder. Does not depend on learning.

    index/NAME/domains/
      changed              rewritten with every change, so that a running server notices changes by other processes
      lock                 held while a domain changes
      DOMAIN/              its name, percent-encoded
        domain.json          its parent and its versions, the last of which is served
        000003.safetensors   the state of version 3
        queries.safetensors  queries that a server may keep, see `kept_queries.py`

The state of a version is written before the record that names it, and one rename replaces the record. A reader
therefore sees either the previous version or the new one, complete. A state uses the encoder's coordinates: it stays
valid when the index is rebuilt, but not when the encoder changes.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from semsearch.adapters.adapter import UNKNOWN_DOMAIN, DomainAdapter
from semsearch.adapters.state import DomainState
from semsearch.errors import StateError, StateFileError, StorageError
from semsearch.storage.former_names import accept_former_names
from semsearch.system.files import atomic_write, sync_to_disk
from semsearch.types import domain_name_problem

FOLDER = "domains"
RECORD = "domain.json"
MAX_STATES = 20
"""Latest versions of a domain whose states are kept, so that a rollback can serve them again."""
MAX_VERSIONS = 200
"""Latest versions of a domain that its record keeps."""
MAX_DEPTH = 8
"""Domains in a lineage, from a domain to its last ancestor."""
DAMAGED = "damaged: `semsearch domains list` says how"
"""Reason of an adapter whose domain cannot be read."""

VersionEvent = Literal["adapted", "declined", "reset", "rolled back", "imported"]


class Version(BaseModel):
    """One change of the state that a domain is served with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    _former = model_validator(mode="before")(
        accept_former_names(how="event", words="explanation", through="last_entry", of="restored")
    )

    number: int = Field(ge=0, description="From 1; 0 of a domain that does not exist, which is never stored")
    at: datetime
    event: VersionEvent
    explanation: str = Field(description="The reason, in a sentence")
    state: str | None = Field(description="File of the state; None if the domain has no state of its own")
    learner: str = Field(description="The learner that produced the state, or `none`")
    labels: int = Field(0, ge=0, description="Number of labelled queries that the decision is based on")
    last_entry: int = Field(0, ge=0, description="Number of the last log entry that was taken into account")
    parent: str | None = Field(None, description="`DOMAIN/VERSION` whose state the inner loop started from")
    restored: int | None = Field(None, description="The version that a rollback returned to")
    verdict: dict[str, JsonValue] = Field(default_factory=dict, description="The guard's findings")


class DomainRecord(BaseModel):
    """A domain's parent and its history."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: str
    encoder_sha256: str = Field(description="Checksum of the weights of the encoder that its states belong to")
    parent: str | None = None
    versions: tuple[Version, ...] = ()

    @property
    def current(self) -> Version | None:
        """The version that is served; None if there is no version yet."""
        return self.versions[-1] if self.versions else None

    @property
    def number(self) -> int:
        """The current version's number; 0 if there is no version yet."""
        return self.versions[-1].number if self.versions else 0


class DomainStore:
    """The domains of one index on disk."""

    def __init__(self, index: Path, *, encoder_sha256: str, dimension: int) -> None:
        """Use the domains in the index's folder. encoder_sha256: checksum of the weights of the index's encoder.

        dimension: of the index's vectors, which may be cut.
        """
        self.folder = index / FOLDER
        self.dimension = dimension
        self._encoder = encoder_sha256

    def check_name(self, domain: str) -> None:
        """Raise StateError if `domain` is not a valid name."""
        folder_name(domain)

    def names(self) -> list[str]:
        """Return the names of all domains that have a record, sorted."""
        return sorted(unquote(path.parent.name) for path in self.folder.glob(f"*/{RECORD}"))

    def record(self, domain: str) -> DomainRecord:
        """Return the domain's record; an empty one if there is none, without creating anything.

        Raises StateFileError if the record is damaged or belongs to another encoder, and StateError if it belongs to
        another domain.
        """
        path = self._folder(domain) / RECORD
        try:
            record = DomainRecord.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return DomainRecord(domain=domain, encoder_sha256=self._encoder)
        except (OSError, ValidationError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
            raise StateFileError(
                f"{path} is not a domain's record ({reason}): remove {path.parent} and adapt the domain again"
            ) from error
        if record.domain != domain and record.domain.casefold() == domain.casefold():
            raise StateError(
                f"the folder {path.parent.name} belongs to the domain {record.domain!r}: this file system does not tell"
                f" upper from lower case, so choose another name than {domain!r}"
            )
        if record.encoder_sha256 != self._encoder:
            raise StateFileError(
                f"{path.parent} was learned with another encoder than the index was built with: remove it and adapt"
                " the domain again"
            )
        return record

    def state(self, domain: str, version: Version) -> DomainState | None:
        """Return the state of one of the domain's versions.

        Raises StateFileError if its file is damaged or missing, or of vectors of another dimension.
        """
        if version.state is None:
            return None
        path = self._folder(domain) / version.state
        state, _ = DomainState.open(path)
        if state.dimension != self.dimension:
            raise StateFileError(
                f"{path} is for vectors of {state.dimension} dimensions, the index has {self.dimension}: remove"
                f" {path.parent} and adapt the domain again"
            )
        return state

    def append(
        self,
        domain: str,
        event: VersionEvent,
        *,
        explanation: str,
        state: DomainState | None,
        learner: str = "none",
        labels: int = 0,
        last_entry: int = 0,
        parent: str | None = None,
        restored: int | None = None,
        verdict: Mapping[str, JsonValue] | None = None,
    ) -> Version:
        """Append a version to the domain's record and return it; it is served from now on. A failure changes nothing.

        state: its state; None to serve none of its own. The other arguments are the fields of `Version`.

        Raises StateError if the record is damaged, StorageError if the folder cannot be written.
        """
        with self._locked_record(domain) as record:
            folder = self._folder(domain)
            number = record.number + 1
            version = Version(
                number=number,
                at=datetime.now(UTC),
                event=event,
                explanation=explanation,
                state=None if state is None else f"{number:06d}.safetensors",
                learner=learner,
                labels=labels,
                last_entry=last_entry,
                parent=parent,
                restored=restored,
                verdict=dict(verdict or {}),
            )
            if state is not None and version.state is not None:
                header = {"encoder_sha256": self._encoder, **version.model_dump(mode="json", exclude={"state"})}
                state.save(folder / version.state, header)
            versions, state_files = _trim_history((*record.versions, version))
            self._write(record.model_copy(update={"versions": versions}))
            for path in folder.glob("[0-9]*.safetensors"):
                if path.name not in state_files:
                    path.unlink(missing_ok=True)
        return version

    def set_parent(self, domain: str, parent: str | None) -> None:
        """Let the domain inherit from `parent`, or from no domain if it is None.

        Raises StateError if the domain would be its own ancestor or the lineage would exceed MAX_DEPTH, StorageError
        if the folder cannot be written.
        """
        if parent is not None:
            self.check_name(parent)
            lineage = [parent, *self.ancestors(parent)]
            if domain in lineage:
                raise StateError(f"{parent!r} inherits from {domain!r} already: a domain cannot be its own ancestor")
            if len(lineage) >= MAX_DEPTH:
                raise StateError(
                    f"{parent!r} has {len(lineage) - 1} ancestors already: a domain can have at most {MAX_DEPTH - 1}"
                )
        if parent == self.record(domain).parent:
            return  # no record for a domain that has no parent and gets none
        with self._locked_record(domain) as record:
            self._write(record.model_copy(update={"parent": parent}))

    def ancestors(self, domain: str) -> list[str]:
        """Return the domain's parent, the parent's parent and so on."""
        return [name for name, _ in self._lineage(domain)][1:]

    def children(self) -> dict[str, list[str]]:
        """Return domain → the domains that inherit from it directly. Damaged records are skipped."""
        children: dict[str, list[str]] = {}
        for name in self.names():
            with suppress(StateError):
                parent = self.record(name).parent
                if parent is not None:
                    children.setdefault(parent, []).append(name)
        return children

    def domain_adapter(self, domain: str) -> DomainAdapter:
        """Return the adapter of the domain: of its own state, else of its nearest ancestor's, else without a state.

        A damaged record or state gives an adapter without a state that names the damage, so that the damage of one
        domain does not affect others.
        """
        return self.domain_adapters([domain])[domain]

    def domain_adapters(self, domains: Iterable[str]) -> dict[str, DomainAdapter]:
        """As `domain_adapter`, for several domains, which share one object of a state that they have in common."""
        states: dict[tuple[str, int], DomainState | None] = {}
        return {domain: self._domain_adapter(domain, states) for domain in domains}

    def revision(self) -> int:
        """Return a number that changes whenever any process changes a domain."""
        try:
            return (self.folder / "changed").stat().st_mtime_ns
        except OSError:
            return 0

    def _domain_adapter(self, domain: str, states: dict[tuple[str, int], DomainState | None]) -> DomainAdapter:
        """states: those read so far, by domain and version; a state read here is added."""
        declined: Version | None = None
        try:
            for name, record in self._lineage(domain):
                current = record.current
                if current is None:
                    continue
                if (name, current.number) not in states:
                    states[name, current.number] = self.state(name, current)
                state = states[name, current.number]
                if state is not None:
                    reason = current.explanation if name == domain else f"inherited from {name!r}"
                    return DomainAdapter(
                        state,
                        domain=name,
                        version=current.number,
                        learner=current.learner,
                        reason=reason,
                        verdict=current.verdict,
                    )
                declined = declined or current
        except StateError as error:
            return DomainAdapter(None, reason=DAMAGED, damage=f"damaged: {error}")
        if declined is None:
            return UNKNOWN_DOMAIN
        return DomainAdapter(None, reason=declined.explanation, verdict=declined.verdict)

    def _lineage(self, domain: str) -> Iterator[tuple[str, DomainRecord]]:
        """Yield the domain, its parent and so on, with their records. Records are read one by one, as needed."""
        visited: list[str] = []
        name: str | None = domain
        while name is not None and name not in visited and len(visited) <= MAX_DEPTH:
            record = self.record(name)
            visited.append(name)
            yield name, record
            name = record.parent

    def _folder(self, domain: str) -> Path:
        return self.folder / folder_name(domain)

    @contextmanager
    def _locked_record(self, domain: str) -> Iterator[DomainRecord]:
        """Yield the domain's record and hold the lock, so that no other process or thread changes it."""
        folder = self._folder(domain)
        with locked_domains(self.folder, folder):
            folder.mkdir(exist_ok=True)
            yield self.record(domain)

    def _write(self, record: DomainRecord) -> None:
        folder = self._folder(record.domain)
        for path, content in (
            (folder / RECORD, record.model_dump_json(indent=1) + "\n"),
            (self.folder / "changed", f"{record.domain} {record.number}\n"),
        ):
            with atomic_write(path) as unfinished:
                unfinished.write_text(content, encoding="utf-8")
        sync_to_disk(folder)


@contextmanager
def locked_domains(folder: Path, changed: Path) -> Iterator[None]:
    """Hold the lock of an index's domains, so that no other process or thread changes them.

    folder: `domains` in the index's folder. changed: what is to be written. Raises StorageError if it cannot be.
    """
    try:
        # not the index's folder: one that was moved or deleted is not to be replaced by an empty one
        folder.mkdir(exist_ok=True)
        with (folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise StorageError(
            f"{changed} cannot be written ({error.strerror}): free disk space, or make the folder writable"
        ) from error


def _trim_history(versions: tuple[Version, ...]) -> tuple[tuple[Version, ...], set[str]]:
    """The last MAX_VERSIONS versions, and the state files that the last MAX_STATES of them name; others name none."""
    versions, last = versions[-MAX_VERSIONS:], versions[-1].number
    state_files = {v.state for v in versions if v.state is not None and v.number > last - MAX_STATES}
    return tuple(v if v.state in state_files else v.model_copy(update={"state": None}) for v in versions), state_files


def folder_name(domain: str) -> str:
    """Return the name of a domain's folder. Raises StateError if `domain` is not a valid name."""
    if problem := domain_name_problem(domain):
        raise StateError(problem)
    return quote(domain, safe="")
