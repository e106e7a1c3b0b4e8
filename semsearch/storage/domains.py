"""What an index's domains have learned, version by version, beside the index. Does not depend on learning.

    index/NAME/domains/
      changed              rewritten with every change, so that a running server sees what another process did
      lock                 held while a domain changes
      DOMAIN/              its name percent-encoded
        domain.json          its parent and its versions, the last of which serves
        000003.safetensors   the state of version 3

A version's state is written before the record that names it, and the record is replaced by one rename: a reader
sees the version before or the one after, whole. A state stands in the encoder's own coordinates: it outlives a
rebuilding of the index, not a change of encoder.
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
from semsearch.errors import StateError, StorageError
from semsearch.storage.former_names import accept_former_names
from semsearch.system.files import atomic_write, sync_to_disk

FOLDER = "domains"
RECORD = "domain.json"
MAX_STATES = 20
"""Versions of a domain that can be returned to."""
MAX_VERSIONS = 200
"""Versions of a domain that its history tells of."""
MAX_DEPTH = 8
"""Domains in a line from a domain to its last ancestor, at most."""

VersionEvent = Literal["adapted", "declined", "reset", "rolled back", "imported"]


class Version(BaseModel):
    """One change of what a domain is served with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    _former = model_validator(mode="before")(
        accept_former_names(how="event", words="explanation", through="last_entry", of="restored")
    )

    number: int = Field(ge=1)
    at: datetime
    event: VersionEvent
    explanation: str = Field(description="Why, for people")
    state: str | None = Field(description="File of the state; None where the domain has none of its own")
    learner: str = Field(description="What made the state, or `none`")
    labels: int = Field(0, ge=0, description="Labelled queries it was decided on")
    last_entry: int = Field(0, ge=0, description="Number of the last entry of the log that it takes into account")
    parent: str | None = Field(None, description="`DOMAIN/VERSION` whose state the inner loop started from")
    restored: int | None = Field(None, description="The version that a rolling back returned to")
    verdict: dict[str, JsonValue] = Field(default_factory=dict, description="What the guard found")


class DomainRecord(BaseModel):
    """A domain: where it comes from and how it got where it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: str
    encoder_sha256: str = Field(description="Weights of the encoder in whose coordinates its states stand")
    parent: str | None = None
    versions: tuple[Version, ...] = ()

    @property
    def current(self) -> Version | None:
        """What serves; None where nothing was ever decided."""
        return self.versions[-1] if self.versions else None

    @property
    def number(self) -> int:
        """The current version's number, 0 where there is none."""
        return self.versions[-1].number if self.versions else 0


class DomainStore:
    """The domains of one index on disk."""

    def __init__(self, index: Path, *, encoder_sha256: str) -> None:
        """Those of the index in this folder, whose encoder has these weights."""
        self.folder = index / FOLDER
        self._encoder = encoder_sha256

    def check_name(self, domain: str) -> None:
        """Raise StateError for what cannot be a domain's name."""
        _named(domain)

    def names(self) -> list[str]:
        """Every domain that has a record."""
        return sorted(unquote(path.parent.name) for path in self.folder.glob(f"*/{RECORD}"))

    def record(self, domain: str) -> DomainRecord:
        """The domain's record, an empty one where there is none. Raises StateError for one that is damaged or of
        another encoder."""
        path = self._folder(domain) / RECORD
        try:
            record = DomainRecord.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return DomainRecord(domain=domain, encoder_sha256=self._encoder)
        except (OSError, ValidationError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
            raise StateError(
                f"{path} is not a domain's record ({reason}): remove {path.parent}, adapt again"
            ) from error
        if record.encoder_sha256 != self._encoder:
            raise StateError(
                f"{path.parent} was learned with another encoder than the index was built with: remove it, adapt the"
                " domain again"
            )
        return record

    def state(self, domain: str, version: Version) -> DomainState | None:
        """The state of one of the domain's versions. Raises StateError where its file is damaged or gone."""
        return None if version.state is None else DomainState.open(self._folder(domain) / version.state)[0]

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
        """The domain's next version, which serves from now on; whole or not at all. Raises StorageError if the disk
        refuses."""
        with self._changing(domain) as record:
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
                about = {"encoder_sha256": self._encoder, **version.model_dump(mode="json", exclude={"state"})}
                state.save(folder / version.state, about)
            versions = (*record.versions, version)[-MAX_VERSIONS:]
            kept = {one.state for one in versions if one.state is not None and one.number > number - MAX_STATES}
            versions = tuple(one if one.state in kept else one.model_copy(update={"state": None}) for one in versions)
            self._write(record.model_copy(update={"versions": versions}))
            for path in folder.glob("*.safetensors"):
                if path.name not in kept:
                    path.unlink(missing_ok=True)
        return version

    def set_parent(self, domain: str, parent: str | None) -> None:
        """Have the domain inherit from another one, or from none.

        Raises StateError where it would inherit from itself, or from further than DEEPEST.
        """
        if parent is not None:
            _named(parent)
            line = [parent, *self.ancestors(parent)]
            if domain in line:
                raise StateError(f"{parent!r} inherits from {domain!r} already: a domain cannot be its own ancestor")
            if len(line) >= MAX_DEPTH:
                raise StateError(
                    f"{parent!r} has {len(line) - 1} ancestors: at most {MAX_DEPTH - 1} levels are followed"
                )
        with self._changing(domain) as record:
            self._write(record.model_copy(update={"parent": parent}))

    def ancestors(self, domain: str) -> list[str]:
        """The domain's parent, its parent and so on."""
        return [name for name, _ in self._line(domain)][1:]

    def children(self) -> dict[str, list[str]]:
        """Domain → those that inherit from it directly. Damaged records are passed over."""
        found: dict[str, list[str]] = {}
        for name in self.names():
            with suppress(StateError):
                parent = self.record(name).parent
                if parent is not None:
                    found.setdefault(parent, []).append(name)
        return found

    def domain_adapter(self, domain: str) -> DomainAdapter:
        """What the domain's queries are to be rescaled with: its own state, else its nearest ancestor's, else nothing.

        A damaged record or state is as good as none, and the reason says so: one domain's damage is not another's.
        """
        return self.domain_adapters([domain])[domain]

    def domain_adapters(self, domains: Iterable[str]) -> dict[str, DomainAdapter]:
        """`serving` of several; a state that several are served with is read once, and one object."""
        read: dict[tuple[str, int], DomainState | None] = {}
        return {domain: self._serving(domain, read) for domain in domains}

    def revision(self) -> int:
        """A number that changes whenever any domain does, in whatever process."""
        try:
            return (self.folder / "changed").stat().st_mtime_ns
        except OSError:
            return 0

    def _serving(self, domain: str, read: dict[tuple[str, int], DomainState | None]) -> DomainAdapter:
        declined: Version | None = None
        try:
            for name, record in self._line(domain):
                current = record.current
                if current is None:
                    continue
                if (name, current.number) not in read:
                    read[name, current.number] = self.state(name, current)
                state = read[name, current.number]
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
            return DomainAdapter(None, reason=f"damaged: {error}")
        return (
            UNKNOWN_DOMAIN
            if declined is None
            else DomainAdapter(None, reason=declined.explanation, verdict=declined.verdict)
        )

    def _line(self, domain: str) -> Iterator[tuple[str, DomainRecord]]:
        """The domain, its parent and so on, with their records; each is read when it is asked for."""
        passed: list[str] = []
        name: str | None = domain
        while name is not None and name not in passed and len(passed) <= MAX_DEPTH:
            record = self.record(name)
            passed.append(name)
            yield name, record
            name = record.parent

    def _folder(self, domain: str) -> Path:
        return self.folder / _named(domain)

    @contextmanager
    def _changing(self, domain: str) -> Iterator[DomainRecord]:
        """The domain's record, which nobody else changes meanwhile."""
        folder = self._folder(domain)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield self.record(domain)
        except OSError as error:
            raise StorageError(
                f"{folder} cannot be written ({error.strerror}): make room, or the folder writable"
            ) from error

    def _write(self, record: DomainRecord) -> None:
        folder = self._folder(record.domain)
        for path, content in (
            (folder / RECORD, record.model_dump_json(indent=1) + "\n"),
            (self.folder / "changed", f"{record.domain} {record.number}\n"),
        ):
            with atomic_write(path) as unfinished:
                unfinished.write_text(content, encoding="utf-8")
        sync_to_disk(folder)


def _named(domain: str) -> str:
    """The folder of a domain. Raises StateError for what cannot be a domain's name."""
    name = quote(domain, safe="")
    if not name or name.startswith(".") or len(name) > 200 or name in {"lock", "changed"}:
        raise StateError(
            f"{domain[:40]!r} cannot be a domain's name: use 1 to 200 bytes, not `lock` or `changed`, that do not begin"
            " with a dot"
        )
    return name
