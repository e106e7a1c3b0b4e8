"""What the page asks beside searching, and what it is answered, as models: suggestions and the map."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from semsearch.server.schemas.feedback import TargetRequest
from semsearch.server.schemas.search import FilterField
from semsearch.types import Mode


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class SuggestionsRequest(TargetRequest):
    """What has been typed so far."""

    query: str = Field("", max_length=200, description="Any part of a query, capitals or not")
    k: int = Field(8, ge=1, le=50)


class SuggestionsResponse(_Answer):
    """Queries of the domain's labels and clicks, those with most of them first."""

    index: str
    domain: str
    suggestions: tuple[str, ...]


class MapQueryRequest(TargetRequest):
    """What is searched for."""

    query: str = Field(min_length=1, max_length=2_000)
    mode: Mode | None = Field(None, description="As of a search")
    filter: FilterField = Field(None, description="As of a search")


class MapRequest(BaseModel):
    """Which map."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: str | None = Field(None, max_length=200)


class MapPassageRequest(MapRequest):
    """Which point of the map."""

    generation: str = Field(max_length=100, description="The state of the index that the row belongs to")
    row: int = Field(ge=0)


class MapPassageResponse(_Answer):
    """The passage at a point of the map."""

    id: str
    title: str
    snippet: str
    start: int
    stop: int


class MapPointModel(_Answer):
    """A result on the map."""

    row: int
    id: str
    title: str
    point: tuple[float, float]


class MapQueryResponse(_Answer):
    """Where a query and its results stand on the map, from 0 to 1 in both directions."""

    generation: str
    results: tuple[MapPointModel, ...]
    query: tuple[float, float] | None = Field(description="null where the search did not go by meaning")
    before: tuple[float, float] | None = Field(description="Where the query would stand without adaptation")
