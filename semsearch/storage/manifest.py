"""The manifest of a generation: how the index was built, how it is searched and adapted, and its files."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from semsearch.adapters.cosine_scale import REFERENCE_SPREAD
from semsearch.errors import EncoderError, IndexFolderError
from semsearch.storage.former_names import accept_former_names
from semsearch.storage.left_out import LeftOut, count_bad
from semsearch.types import LexicalWeight, Mode

# importing the encoder takes seconds, and an index can be read without it
if TYPE_CHECKING:
    from semsearch.encoders.encoder import Encoder
    from semsearch.encoders.runtime import RuntimeChoice

FORMAT_VERSION: Literal[3] = 3
FULLTEXT_VERSION = 4
"""Recorded with each segment. A change of the full text's files, of a stem or of how values are stored needs a new
version; `semsearch compact` then writes older segments again."""
FIRST_SEGMENT = "s-000001"
LEXICAL_WEIGHT = 0.18
"""Cosine that a query's best lexical match is worth where the encoder reads the language; less where cosines vary less
than REFERENCE_SPREAD."""
UNREAD_LEXICAL_WEIGHT = 1.6
"""The same where it does not: more than any cosine."""
MIN_AGREEMENT = 0.42
"""`EncoderFit.agreement` from which on the encoder reads the language. With an English encoder, corpora in Chinese and
Arabic have 0.11 to 0.32, those in English 0.53 and more."""


def now() -> datetime:
    """Return the present time, UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


class EncoderRecord(BaseModel):
    """The encoder that made the vectors. Queries must be encoded with the same one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weights_sha256: str
    configuration_sha256: str | None = Field(
        None, description="Of its tokenizer and modules; None: an object of the caller, or of before it was recorded"
    )
    dimension: int = Field(ge=1)
    window: int = Field(ge=1, description="Tokens that the encoder reads of a text")
    prompts: Mapping[str, str] = Field(description="Text that precedes a query and a document")

    @classmethod
    def of(cls, encoder: Encoder) -> EncoderRecord:
        """Return the record of an open encoder."""
        return cls(
            name=encoder.name,
            weights_sha256=encoder.weights_sha256,
            configuration_sha256=encoder.configuration_sha256,
            dimension=encoder.dimension,
            window=encoder.window,
            prompts=encoder.prompts,
        )

    def open(
        self,
        index: Path,
        *,
        device: str = "auto",
        threads: int | None = None,
        runtime: RuntimeChoice = "auto",
        document_tokens: int | None = None,
    ) -> Encoder:
        """Load the encoder of an index, with its prompts; options as for `Encoder.open`. It is not yet checked.

        Raises EncoderError naming the index if the encoder's folder is missing, and as `Encoder.open` does.
        """
        from semsearch.encoders.encoder import Encoder
        from semsearch.encoders.locate import ModelLocation

        is_path = Path(self.name).is_absolute() or self.name.startswith(".")
        if is_path and not ModelLocation(self.name).is_folder:
            raise EncoderError(
                f"the encoder of the index {index} is missing: put it back at {Path(self.name)}, or build the index"
                " again"
            )
        return Encoder.open(
            self.name,
            device=device,
            threads=threads,
            prompts=self.prompts,
            runtime=runtime,
            document_tokens=document_tokens,
            dimension=self.dimension,
        )

    def check(self, encoder: Encoder, index: str) -> None:
        """Raise IndexFolderError unless an encoder gives the vectors of the one that is recorded.

        index: what the message calls the index. Prompts are not compared.
        """
        if encoder.weights_sha256 != self.weights_sha256:
            raise IndexFolderError(
                f"{index} was built with encoder {self.name!r} of weights {self.weights_sha256[:12]}…, not"
                f" {encoder.name!r} of {encoder.weights_sha256[:12]}…: use that encoder, or build the index again"
            )
        if encoder.dimension != self.dimension:
            raise IndexFolderError(
                f"{index} has vectors of {self.dimension} dimensions, encoder {encoder.name!r} of {encoder.dimension}:"
                " use that dimension, or build the index again"
            )
        if self.configuration_sha256 not in {None, encoder.configuration_sha256}:
            raise IndexFolderError(
                f"{index} was built with encoder {self.name!r}, and {encoder.name!r} has its weights, but another"
                " tokenizer, pooling or window: put the model's files back as they were, or build the index again"
            )


TOKEN_WEIGHT = 1.0
"""What late interaction counts by default."""


class SearchOptions(BaseModel):
    """How an index is searched by default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    _former = model_validator(mode="before")(accept_former_names(effort="ef_search"))

    mode: Mode = Mode.HYBRID
    lexical_weight: Annotated[float, Field(ge=0, le=10)] | Literal["rrf", "auto"] = Field(
        "auto",
        description="Cosine that a query's best lexical match is worth; rrf: reciprocal rank fusion; auto:"
        f" {LEXICAL_WEIGHT}, less where cosines hardly vary, or {UNREAD_LEXICAL_WEIGHT} where the encoder does not read"
        " the corpus's language",
    )
    token_weight: float = Field(
        TOKEN_WEIGHT,
        ge=0,
        le=10,
        description="What late interaction counts in hybrid search, if the index has token vectors: it is multiplied by"
        " the mean of the highest cosines of the query's tokens",
    )
    ef_search: int | None = Field(
        None,
        ge=1,
        description="Candidates kept in a graph search, or lists scanned of an inverted file; by default the value"
        " measured at the build",
    )

    def __str__(self) -> str:
        mode = f"hybrid {self.lexical_weight}" if self.mode is Mode.HYBRID else self.mode.value
        return mode if self.ef_search is None else f"{mode}, ef_search {self.ef_search}"


class EncoderFit(BaseModel):
    """Whether the encoder reads the language of a corpus, measured without labels when the index is built."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agreement: float = Field(
        le=1,
        description="Term similarity of nearest vectors: 1 as high as of any passage, 0 as by chance",
    )
    passages: int = Field(ge=2, description="Number of passages that it was measured on")
    spread: float | None = Field(
        None,
        ge=0,
        description="Standard deviation of the cosines of a passage to others; None in indexes of earlier versions",
    )

    def __str__(self) -> str:
        verdict = "the encoder reads this corpus" if self.reads_language else "the encoder hardly reads this corpus"
        spread = "" if self.spread is None else f"; cosines vary by {self.spread:.3f}"
        return (
            f"{verdict} (agreement of vectors and terms {self.agreement:.2f}, from {MIN_AGREEMENT} on it does{spread})"
        )

    @property
    def lexical_weight(self) -> float:
        """What `lexical_weight = "auto"` stands for in this corpus."""
        if not self.reads_language:
            return UNREAD_LEXICAL_WEIGHT
        # a cosine is worth more where all cosines are alike
        share = 1.0 if self.spread is None else min(1.0, self.spread / REFERENCE_SPREAD)
        return round(LEXICAL_WEIGHT * share, 4)

    @property
    def reads_language(self) -> bool:
        """Whether neighbours by vectors share words far more often than by chance."""
        return self.agreement >= MIN_AGREEMENT


class WeakSimilarity(BaseModel):
    """How near passages come to queries that have nothing to do with the corpus, measured when the index is built."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(description="Cosine below which the best match of a query is weak")
    queries: int = Field(ge=1, description="Number of unrelated queries that it was measured with")

    def __str__(self) -> str:
        return f"below a cosine of {self.threshold:.2f} (90% of {self.queries} unrelated queries are)"


class IndexRecord(BaseModel):
    """The type of a vector index."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    _former = model_validator(mode="before")(accept_former_names(effort="ef_search", why="reason"))

    type: Literal["exact", "hnsw", "ivf"] = "exact"
    vectors: Literal["float32", "float16", "int8"] = Field("float32", description="Precision of the stored vectors")
    reason: str = Field("", description="Why this type was chosen")
    ef_search: int | None = Field(
        None, ge=1, description="Candidates kept while searching the graph, or lists scanned of the inverted file"
    )
    recall: float | None = Field(None, description="recall@10 with this ef_search, measured at the build")
    queries: int = Field(0, description="Number of queries that the recall was measured on")


class AdaptationOptions(BaseModel):
    """How the domains of an index are adapted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learners: tuple[str, ...] | None = Field(
        None,
        description="Names of the learners that the guard may choose from; empty: judged queries are memorized only; by"
        " default all learners of the weights",
    )

    def __str__(self) -> str:
        return "any" if self.learners is None else ", ".join(self.learners) or "none: memory only"


class FileRecord(BaseModel):
    """Size and checksum of a file, which are verified when the generation is opened."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int = Field(ge=0)
    checksum: str = Field(pattern="^(xxh3|sha256):[0-9a-f]+$", description="ALGORITHM:CHECKSUM, as of `checksum`")

    @model_validator(mode="before")
    @classmethod
    def _former(cls, values: Any) -> Any:
        """Read the records of before there was a choice of algorithms."""
        if isinstance(values, Mapping) and "sha256" in values:
            return {"bytes": values.get("bytes"), "checksum": f"sha256:{values['sha256']}"}
        return values

    @property
    def algorithm(self) -> Literal["xxh3", "sha256"]:
        """The algorithm of the checksum."""
        return "sha256" if self.checksum.startswith("sha256:") else "xxh3"


class SegmentRecord(BaseModel):
    """A segment of an index: written once, never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern="^s-[0-9]+$", description="Name of its folder")
    documents: int = Field(ge=1)
    passages: int = Field(ge=1)
    deleted: int = Field(0, ge=0, description="Number of its documents that were deleted or replaced since")
    deleted_passages: int = Field(0, ge=0)
    index: IndexRecord = IndexRecord()
    fulltext_version: int = Field(0, ge=0, description="Version of its full text; 0: of before versions were recorded")

    @property
    def is_former(self) -> bool:
        """Whether an earlier semsearch wrote it, so that it must be upgraded."""
        return self.fulltext_version < FULLTEXT_VERSION


class Manifest(BaseModel):
    """The manifest of a generation, the last file written into it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[3] = FORMAT_VERSION
    built_by: str = Field(description="Version of semsearch")
    built_at: datetime = Field(default_factory=now)
    changed_at: datetime | None = Field(None, description="When documents were last added or deleted")
    title: str
    description: str = ""
    facets: tuple[str, ...] = Field((), description="Metadata fields that the page offers as facets")
    examples: tuple[str, ...] = Field((), description="Queries that the page's first view offers")
    encoder: EncoderRecord
    segments: tuple[SegmentRecord, ...] = Field(min_length=1)
    skipped: int = Field(0, ge=0, description="Number of bad records and files that were skipped")
    left_out: tuple[LeftOut, ...] = Field((), description="What the build and the updates since left out, with reasons")
    search: SearchOptions = SearchOptions()
    encoder_fit: EncoderFit | None = Field(None, description="None if too small a corpus was built or compacted")
    weak_similarity: WeakSimilarity | None = Field(
        None, description="None if the corpus was too small, or the encoder does not read its language"
    )
    needs_measuring: bool = Field(
        False,
        description="Whether documents changed since basis, map, encoder fit and weak matches were computed",
    )
    adaptation: AdaptationOptions = AdaptationOptions()
    tuned: dict[str, JsonValue] | None = Field(None, description="Why `search` and `adaptation` were chosen")
    recipe: dict[str, JsonValue] = Field({}, description="The recipe of the build, as read")
    files: dict[str, FileRecord] = {}

    @property
    def documents(self) -> int:
        """Number of documents that are not deleted."""
        return sum(segment.documents - segment.deleted for segment in self.segments)

    @property
    def passages(self) -> int:
        """Number of passages that are not deleted."""
        return sum(segment.passages - segment.deleted_passages for segment in self.segments)

    @property
    def deleted(self) -> int:
        """Number of deleted documents that still occupy disk space."""
        return sum(segment.deleted for segment in self.segments)

    @property
    def lexical_weight(self) -> LexicalWeight:
        """The lexical weight of a domain that has none of its own."""
        weight = self.search.lexical_weight
        if weight != "auto":
            return weight
        return LEXICAL_WEIGHT if self.encoder_fit is None else self.encoder_fit.lexical_weight

    @property
    def index(self) -> IndexRecord:
        """The vector index of the first segment, which a build or a compaction wrote."""
        return self.segments[0].index

    @property
    def is_former(self) -> bool:
        """Whether `semsearch compact` must upgrade the index before it can be searched."""
        return any(segment.is_former for segment in self.segments)

    def with_left_out(self, entries: Sequence[LeftOut], files: Collection[str], *, complete: bool) -> Manifest:
        """Return the manifest with what an update left out.

        files: those that the update read; what was left out of them before is replaced. complete: whether the update
        read everything that the index holds, so that nothing else counts.
        """
        stays = [] if complete else [entry for entry in self.left_out if entry.file not in files]
        before = 0 if complete else self.skipped - count_bad(self.left_out) + count_bad(stays)
        return self.model_copy(update={"left_out": (*stays, *entries), "skipped": max(0, before) + count_bad(entries)})

    def with_segments(self, segments: Sequence[SegmentRecord]) -> Manifest:
        """Return the manifest with other segments, changed now."""
        return self.model_copy(update={"segments": tuple(segments), "changed_at": now()})


def parse_manifest(path: Path, content: bytes) -> Manifest:
    """Parse the content of the file `path`. Raises IndexFolderError naming the file if it is not a valid manifest."""
    try:
        values = json.loads(content)
        version = values.get("format_version")
    except (ValueError, AttributeError) as error:
        raise IndexFolderError(f"{path} is not a manifest ({error}): build the index again") from error
    if version != FORMAT_VERSION:
        raise IndexFolderError(
            f"{path} has format version {version!r}, but this semsearch reads {FORMAT_VERSION}: build the index again"
        )
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise IndexFolderError(f"{path}: {field}: {first['msg']}: build the index again") from error
