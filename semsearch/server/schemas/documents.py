"""Request and response models for changes of an index: adding and deleting documents, and compaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from semsearch.types import Document, document_problem


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NewDocument(_Request):
    """A document to add."""

    id: str = Field(
        min_length=1, max_length=1_000, description="Unique within the index; replaces an existing document"
    )
    title: str = ""
    text: str = Field("", description="Split into passages if it is long; may be empty if there is a title")
    source: str = Field(
        "", max_length=1_000, description="Origin of the document; by default the name of the write key"
    )
    metadata: Mapping[str, JsonValue] = Field({}, description="Fields to filter by; `url` becomes a link on the page")

    @model_validator(mode="after")
    def _check_content(self) -> Self:
        if not f"{self.title}{self.text}".strip():
            raise ValueError("neither title nor text: give at least one word")
        problem = document_problem(Document(self.id, self.title, self.text, self.source, self.metadata))
        if problem is not None:
            raise ValueError(problem)
        return self


class DocumentsRequest(_Request):
    """Documents to add. An existing document with the same id is replaced."""

    documents: tuple[NewDocument, ...] = Field(min_length=1, max_length=1_000)
    index: str | None = Field(None, max_length=200, description="Index; by default the first one served")

    @model_validator(mode="after")
    def _check_unique_ids(self) -> Self:
        if len({document.id for document in self.documents}) < len(self.documents):
            raise ValueError("two documents have the same id: ids are unique")
        return self


class DeleteRequest(_Request):
    """Documents to delete."""

    id: tuple[str, ...] = Field(min_length=1, max_length=1_000, description="Document id; may be given several times")
    index: str | None = Field(None, max_length=200)


class CompactRequest(_Request):
    """An index to compact."""

    index: str | None = Field(None, max_length=200)
    wait: bool = Field(
        True, description="Whether to wait for the end; if false, or if it takes too long, responds with 202"
    )


class ChangedResponse(BaseModel):
    """The result of a change. Searches already use it."""

    model_config = ConfigDict(frozen=True)

    index: str
    added: int
    replaced: int
    unchanged: int = Field(description="Documents that were identical already")
    deleted: int
    unknown: tuple[str, ...] = Field(description="Ids to delete that the index does not contain")
    documents: int = Field(description="Documents in the index now")
    segments: int = Field(description="Segments of the index; compaction merges them into one")
