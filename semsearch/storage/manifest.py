"""What a built index says of itself: how it was made, how it is to be searched and adapted, and what its files are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from semsearch.errors import IndexFolderError
from semsearch.storage.former_names import accept_former_names
from semsearch.types import Mode

# an encoder takes seconds to import, and is looked at only where one is open
if TYPE_CHECKING:
    from semsearch.encoders.encoder import Encoder

FORMAT_VERSION: Literal[3] = 3
FIRST_SEGMENT = "s-000001"


def now() -> datetime:
    """The time, UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


class EncoderRecord(BaseModel):
    """Which encoder made the vectors; queries must meet the same one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weights_sha256: str
    dimension: int = Field(ge=1)
    window: int = Field(ge=1, description="Tokens that the encoder reads of a text")
    prompts: Mapping[str, str] = Field(description="What stands before a query and before a document")

    @classmethod
    def of(cls, encoder: Encoder) -> EncoderRecord:
        """The record of an encoder that is open."""
        return cls(
            name=encoder.name,
            weights_sha256=encoder.weights_sha256,
            dimension=encoder.dimension,
            window=encoder.window,
            prompts=encoder.prompts,
        )


class SearchOptions(BaseModel):
    """How an index is searched where a request does not say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    _former = model_validator(mode="before")(accept_former_names(effort="ef_search"))

    mode: Mode = Mode.HYBRID
    lexical_weight: Annotated[float, Field(ge=0, le=10)] | Literal["rrf"] = Field(
        0.2, description="Cosine that a query's best lexical match is worth; rrf: reciprocal rank fusion"
    )
    ef_search: int | None = Field(
        None, ge=1, description="Candidates kept along the graph of an hnsw index; by default what its build found"
    )

    def __str__(self) -> str:
        by = f"hybrid {self.lexical_weight}" if self.mode is Mode.HYBRID else self.mode.value
        return by if self.ef_search is None else f"{by}, {self.ef_search} candidates"


class IndexRecord(BaseModel):
    """How nearest vectors are found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    _former = model_validator(mode="before")(accept_former_names(effort="ef_search", why="reason"))

    type: Literal["exact", "hnsw"] = "exact"
    vectors: Literal["float32", "float16", "int8"] = Field("float32", description="How their numbers are kept")
    reason: str = Field("", description="Why it is this type")
    ef_search: int | None = Field(None, ge=1, description="Candidates kept along the graph while searching")
    recall: float | None = Field(None, description="recall@10 against exact at that effort, measured when it was built")
    queries: int = Field(0, description="Queries that was measured on")


class AdaptationOptions(BaseModel):
    """How the domains of an index learn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learners: tuple[str, ...] | None = Field(
        None,
        description="What the guard may choose from, by name; none: judged queries are remembered and nothing else; by"
        " default all that the weights have",
    )

    def __str__(self) -> str:
        return "any" if self.learners is None else ", ".join(self.learners) or "none: memory only"


class FileRecord(BaseModel):
    """What a file of the generation must look like to be trusted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int = Field(ge=0)
    sha256: str


class SegmentRecord(BaseModel):
    """A part of an index that was written at one time and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern="^s-[0-9]+$", description="Of its folder")
    documents: int = Field(ge=1)
    passages: int = Field(ge=1)
    deleted: int = Field(0, ge=0, description="Documents of it that were deleted, or replaced, since")
    deleted_passages: int = Field(0, ge=0)
    index: IndexRecord = IndexRecord()


class Manifest(BaseModel):
    """What a generation is; the last file written into it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[3] = FORMAT_VERSION
    built_by: str = Field(description="Version of semsearch")
    built_at: datetime = Field(default_factory=now)
    changed_at: datetime | None = Field(None, description="When documents were last added or deleted")
    title: str
    description: str = ""
    facets: tuple[str, ...] = Field((), description="Metadata whose values the page counts and offers")
    encoder: EncoderRecord
    segments: tuple[SegmentRecord, ...] = Field(min_length=1)
    skipped: int = Field(0, ge=0, description="Records left out of the build as bad")
    search: SearchOptions = SearchOptions()
    adaptation: AdaptationOptions = AdaptationOptions()
    tuned: dict[str, JsonValue] | None = Field(None, description="What `search` and `adaptation` were chosen by")
    recipe: dict[str, JsonValue] = Field({}, description="The recipe it was built by, as read")
    files: dict[str, FileRecord] = {}

    @property
    def documents(self) -> int:
        """Documents that can be found."""
        return sum(one.documents - one.deleted for one in self.segments)

    @property
    def passages(self) -> int:
        """Passages that can be found."""
        return sum(one.passages - one.deleted_passages for one in self.segments)

    @property
    def deleted(self) -> int:
        """Deleted documents that still take room."""
        return sum(one.deleted for one in self.segments)

    @property
    def index(self) -> IndexRecord:
        """How nearest vectors are found in the first segment, which a build or a compaction wrote."""
        return self.segments[0].index

    def with_segments(self, segments: Sequence[SegmentRecord]) -> Manifest:
        """The same index with other segments, now."""
        return self.model_copy(update={"segments": tuple(segments), "changed_at": now()})


def parse_manifest(path: Path, content: bytes) -> Manifest:
    """The manifest in a file's content. Raises IndexFolderError naming the file for anything else."""
    try:
        values = json.loads(content)
        version = values.get("format_version")
    except (ValueError, AttributeError) as error:
        raise IndexFolderError(f"{path} is not a manifest ({error}): build the index again") from error
    if version != FORMAT_VERSION:
        raise IndexFolderError(
            f"{path} has format version {version!r}, this semsearch reads {FORMAT_VERSION}: build the index again"
        )
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise IndexFolderError(f"{path}: {place}: {first['msg']}: build the index again") from error
