"""Semantic search that learns to adapt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from semsearch.errors import SemsearchError
from semsearch.types import Document, Hit, Passage, Query

if TYPE_CHECKING:
    from semsearch.search.engine import SearchEngine

__version__ = "0.1.0"

__all__ = ["Document", "Hit", "Passage", "Query", "SearchEngine", "SemsearchError", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the engine when it is first asked for: it brings torch, which takes seconds."""
    if name == "SearchEngine":
        from semsearch.search.engine import SearchEngine

        return SearchEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
