"""What is sent and answered about labels, clicks, domains and comparisons, as models."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from semsearch.server.schemas.search import AdaptationModel, FilterField, HitModel, TimingModel
from semsearch.types import DEFAULT_DOMAIN, Mode

MAX_ENTRIES = 1_000
"""Labels or clicks in one request."""


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TargetRequest(_Request):
    """Where what is sent belongs."""

    index: str | None = Field(None, max_length=200, description="Which index; by default the first served")
    domain: str = Field(DEFAULT_DOMAIN, min_length=1, max_length=200, description="Whose labels or clicks these are")


class LabelIn(_Request):
    """A judgment of one document for one query."""

    query: str = Field(
        max_length=2_000, description="Blank where a document is liked unasked: then it counts for recommending only"
    )
    document: str = Field(min_length=1, max_length=1_000, description="Its id")
    relevance: float = Field(
        1.0, ge=0, le=1_000, allow_inf_nan=False, description="0: not relevant; above, the more the better"
    )
    id: str | None = Field(
        None, min_length=1, max_length=200, description="Sent again it is the same label; by default a new one"
    )
    user: str = Field("", max_length=200, description="Who judged, as the sender calls them")


class LabelRequest(TargetRequest, LabelIn):
    """One label."""


class LabelsRequest(TargetRequest):
    """Several labels, kept all or none."""

    labels: tuple[LabelIn, ...] = Field(min_length=1, max_length=MAX_ENTRIES)


class ClickIn(_Request):
    """A result list that was shown, and what was clicked in it."""

    query: str = Field(min_length=1, max_length=2_000)
    document: str | None = Field(
        None, min_length=1, max_length=1_000, description="What was clicked; leave it out where nothing was"
    )
    position: int | None = Field(None, ge=1, le=10_000, description="Where it stood, from 1; by default as in `shown`")
    shown: tuple[str, ...] = Field((), max_length=200, description="Ids of what was shown, best first")
    id: str | None = Field(
        None, min_length=1, max_length=200, description="Sent again it is the same click; by default a new one"
    )
    user: str = Field("", max_length=200)

    @model_validator(mode="after")
    def _placed(self) -> Self:
        if self.document is None:
            if not self.shown or self.position is not None:
                raise ValueError("without a document, give what was `shown` and no `position`")
        elif self.position is None:
            if self.document not in self.shown:
                raise ValueError("give the `position`, or what was `shown` with the document in it")
        elif self.shown and self.shown[self.position - 1 : self.position] != (self.document,):
            raise ValueError("the document does not stand at this `position` of what was `shown`")
        return self

    @property
    def document_position(self) -> int | None:
        """Where what was clicked stood, from 1."""
        if self.document is None or self.position is not None:
            return self.position
        return self.shown.index(self.document) + 1


class ClickRequest(TargetRequest, ClickIn):
    """One click."""


class ClicksRequest(TargetRequest):
    """Several clicks, kept all or none."""

    clicks: tuple[ClickIn, ...] = Field(min_length=1, max_length=MAX_ENTRIES)


class EntryFilterRequest(_Request):
    """Which labels or clicks; what is left out does not matter."""

    index: str | None = Field(None, max_length=200)
    id: str | None = Field(None, max_length=200)
    domain: str | None = Field(None, max_length=200)
    query: str | None = Field(None, max_length=2_000)
    document: str | None = Field(None, max_length=1_000)
    user: str | None = Field(None, max_length=200)
    source: str | None = Field(None, max_length=200, description="The name of the key they came with, or the import")


class ListRequest(EntryFilterRequest):
    """Which labels or clicks, and which part of them."""

    after: int = Field(0, ge=0, description="The `next` of the part before")
    limit: int = Field(100, ge=1, le=1_000)


class DomainRequest(_Request):
    """A change of a domain."""

    index: str | None = Field(None, max_length=200)


class AdaptRequest(DomainRequest):
    """Have a domain adapted to its labels."""

    wait: bool = Field(True, description="Answer when it is done; otherwise at once, with 202")


class RollbackRequest(DomainRequest):
    """Return to an earlier version."""

    to: int | None = Field(None, ge=0, description="Its number; 0 is before all; by default the one before the present")


class ParentRequest(DomainRequest):
    """Have a domain inherit from another one."""

    parent: str | None = Field(description="Its name; null for none", min_length=1, max_length=200)


class CompareRequest(TargetRequest):
    """One query, frozen and adapted."""

    query: str = Field(min_length=1, max_length=2_000)
    k: int = Field(10, ge=1, le=100)
    mode: Mode | None = Field(None, description="What to go by: meaning, words or both; by default what the index does")
    filter: FilterField = Field(None, description="As of a search")


class RecommendRequest(TargetRequest):
    """What might please whoever the domain belongs to."""

    k: int = Field(10, ge=1, le=100)
    diversity: float = Field(
        0.3, ge=0, le=1, description="0: only what is nearest to what was liked; 1: as different as may be"
    )


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class StoredResponse(_Answer):
    """What was sent is on the disk."""

    index: str
    domain: str
    ids: tuple[str, ...] = Field(description="In the order they were sent; withdraw them by these")
    new: int
    known: int = Field(description="Sent before under the same id, and not kept twice")


class LabelModel(_Answer):
    """A label as it was kept."""

    id: str
    domain: str
    query: str
    document: str
    relevance: float
    user: str
    source: str = Field(description="The name of the key it came with, `local`, or the import")
    at: datetime


class ClickModel(_Answer):
    """A click as it was kept."""

    id: str
    domain: str
    query: str
    document: str | None
    position: int | None
    shown: tuple[str, ...]
    user: str
    source: str
    at: datetime


class LabelsResponse(_Answer):
    """Labels in the order they came."""

    index: str
    labels: tuple[LabelModel, ...]
    next: int | None = Field(description="`after` of the next part; null at the end")


class ClicksResponse(_Answer):
    """Clicks in the order they came."""

    index: str
    clicks: tuple[ClickModel, ...]
    next: int | None


class RetractedResponse(_Answer):
    """What counts no more; the log keeps that it was there."""

    index: str
    retracted: Mapping[str, int] = Field(description="How many, by domain; what was learned from them is learned anew")


class VersionModel(_Answer):
    """A version of a domain."""

    number: int
    at: datetime
    event: str
    explanation: str
    learner: str
    labels: int = Field(description="Labelled queries it was decided on")
    restorable: bool = Field(description="Whether it can be returned to")
    restored: int | None = Field(description="What a rolling back returned to")
    parent: str | None = Field(description="`DOMAIN/VERSION` that the inner loop started from")
    verdict: Mapping[str, JsonValue] = Field(description="The guard's: candidate, estimate, interval")


class DomainModel(_Answer):
    """A domain as it stands."""

    index: str
    domain: str
    parent: str | None
    adaptation: AdaptationModel
    labels: int = Field(description="In the log, not withdrawn")
    clicks: int
    pending: int = Field(description="Entries of the log that the version does not take into account")
    adapting: bool = Field(description="Whether it waits to be adapted, or is being adapted")


class DomainsResponse(_Answer):
    """All domains of an index."""

    index: str
    domains: tuple[DomainModel, ...]


class DomainResponse(DomainModel):
    """A domain with its history, newest first."""

    history: tuple[VersionModel, ...]


class ComparedModel(HitModel):
    """A document of one of the two rankings."""

    other_rank: int | None = Field(description="Its place in the other ranking, from 1; null beyond its 100th")


class CompareResponse(_Answer):
    """One query, encoded once, as the frozen encoder and as the domain's adaptation rank it."""

    index: str
    domain: str
    query: str
    adaptation: AdaptationModel
    frozen: tuple[ComparedModel, ...]
    adapted: tuple[ComparedModel, ...]
    moved: int = Field(description="Places of the adapted ranking that hold another document than the frozen one's")
    timing_ms: TimingModel


class RecommendedModel(HitModel):
    """A recommended document."""

    similar_to: tuple[str, ...] = Field(description="Ids of what was liked that it is nearest to")


class RecommendResponse(_Answer):
    """Recommended documents, best first."""

    index: str
    domain: str
    liked: int = Field(description="Documents that these are judged by")
    hits: tuple[RecommendedModel, ...]
