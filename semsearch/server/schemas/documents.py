"""What the endpoint takes and gives about changes of an index, as models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from semsearch.types import is_unicode


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NewDocument(_Request):
    """A document to be found."""

    id: str = Field(min_length=1, max_length=1_000, description="Unique within the index; a known one is replaced")
    title: str = ""
    text: str = Field("", description="Cut into passages where it is long; may be empty where there is a title")
    source: str = Field("", max_length=1_000, description="Where it is from; by default the write key's name")
    metadata: Mapping[str, JsonValue] = Field({}, description="What it can be filtered by, and `url` for a link")

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        if not f"{self.title}{self.text}".strip():
            raise ValueError("neither title nor text: give at least one word")
        try:
            kept = json.dumps(dict(self.metadata), allow_nan=False, ensure_ascii=False)
        except ValueError:
            raise ValueError("metadata holds a number that is not finite: leave it out") from None
        if not is_unicode(f"{self.id}{self.title}{self.text}{self.source}{kept}"):
            raise ValueError("holds half of a surrogate pair: send valid Unicode")
        return self


class DocumentsRequest(_Request):
    """Documents to be added, or to take the place of those whose id they have."""

    documents: tuple[NewDocument, ...] = Field(min_length=1, max_length=1_000)
    index: str | None = Field(None, max_length=200, description="By default the first that is served")

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        if len({one.id for one in self.documents}) < len(self.documents):
            raise ValueError("two documents have one id: ids are unique")
        return self


class DeleteRequest(_Request):
    """Documents to be deleted."""

    id: tuple[str, ...] = Field(min_length=1, max_length=1_000, description="May be given many times")
    index: str | None = Field(None, max_length=200)


class CompactRequest(_Request):
    """An index to be made one piece."""

    index: str | None = Field(None, max_length=200)
    wait: bool = Field(True, description="Answer when it is done, if that is soon; else 202, and it goes on")


class ChangedResponse(BaseModel):
    """What became of a change; searches see it already."""

    model_config = ConfigDict(frozen=True)

    index: str
    added: int
    replaced: int
    unchanged: int = Field(description="Documents that were the same already")
    deleted: int
    unknown: tuple[str, ...] = Field(description="Ids that were to be deleted and are not there")
    documents: int = Field(description="That the index holds now")
    segments: int = Field(description="Pieces that it is in; compacting makes it one")
