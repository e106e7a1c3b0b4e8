"""Request and response models for suggestions and the map."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from semsearch.server.schemas.feedback import TargetRequest
from semsearch.server.schemas.search import FilterField
from semsearch.types import Mode


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True)


class SuggestionsRequest(TargetRequest):
    """A request for suggestions while a query is typed."""

    query: str = Field("", max_length=200, description="Text that a suggested query contains, in any case")
    k: int = Field(8, ge=1, le=50)


class SuggestionsResponse(_Response):
    """Queries of the domain's labels and clicks, most frequent first."""

    index: str
    domain: str
    suggestions: tuple[str, ...]


class MapQueryRequest(TargetRequest):
    """A query to show on the map."""

    query: str = Field(min_length=1, max_length=2_000)
    mode: Mode | None = Field(None, description="As in a search")
    filter: FilterField = Field(None, description="As in a search")


class MapRequest(BaseModel):
    """The index whose map is requested."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: str | None = Field(None, max_length=200)


class MapPassageRequest(MapRequest):
    """A point of the map, by its row."""

    generation: str = Field(max_length=100, description="Generation of the index that the row belongs to")
    row: int = Field(ge=0, lt=2**63)


class MapPassageResponse(_Response):
    """The passage at a point of the map."""

    id: str
    title: str
    snippet: str
    start: int
    stop: int


class MapPointModel(_Response):
    """A result on the map."""

    row: int
    id: str
    title: str
    point: tuple[float, float]


class MapQueryResponse(_Response):
    """Map coordinates, each in [0, 1], of a query and its results."""

    generation: str
    results: tuple[MapPointModel, ...]
    query: tuple[float, float] | None = Field(description="null for keyword search")
    before: tuple[float, float] | None = Field(description="The query without adaptation")
