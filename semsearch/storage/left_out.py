"""What a build or an update could not read, as it is kept in the manifest. Does not depend on readers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

LeftOutKind: TypeAlias = Literal["record", "file", "empty", "part", "format", "note"]
"""record: a row or line that is not a document. file: a file that could not be read, or not to its end. empty: a file
without text. part: of a document that was read. format: files of unknown formats. note: read, with a remark."""

_NOUNS: dict[LeftOutKind, tuple[str, str]] = {
    "record": ("record", "records"),
    "file": ("file that could not be read", "files that could not be read"),
    "empty": ("empty file", "empty files"),
    "part": ("part of a document", "parts of documents"),
    "format": ("file of an unknown format", "files of unknown formats"),
    "note": ("remark", "remarks"),
}
BAD: frozenset[LeftOutKind] = frozenset({"record", "file"})
"""Kinds that are counted as bad records."""


class LeftOut(BaseModel):
    """What was left out of one file, or of one folder, for one reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: LeftOutKind
    file: str = Field(description="The file or folder, as the `source` of its documents names it")
    location: str = Field(description="The first place: `file` or `file:line`")
    reason: str = Field(description="What was wrong with the first, and what to do about it")
    count: int = Field(1, ge=1)

    def __str__(self) -> str:
        more = f" ({self.count:,} {_NOUNS[self.kind][1]})" if self.count > 1 and self.kind != "format" else ""
        return f"{self.location}: {self.reason}{more}"


def count_bad(entries: Iterable[LeftOut]) -> int:
    """Return the number of bad records among what was left out."""
    return sum(entry.count for entry in entries if entry.kind in BAD)


def summarize(entries: Collection[LeftOut]) -> str:
    """Return the counts by kind, such as `12 records, 1 empty file`; empty if nothing was left out."""
    counts = Counter[LeftOutKind]()
    for entry in entries:
        counts[entry.kind] += entry.count
    return ", ".join(
        f"{counts[kind]:,} {singular if counts[kind] == 1 else plural}"
        for kind, (singular, plural) in _NOUNS.items()
        if counts[kind]
    )
