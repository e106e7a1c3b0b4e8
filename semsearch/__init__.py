"""Semantic search that learns to adapt."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from semsearch.errors import (
    ConflictError,
    DeadlineError,
    EncoderError,
    FilterError,
    IndexBusyError,
    IndexFolderError,
    IndexWriteError,
    InputError,
    LabelError,
    OverloadedError,
    QueryError,
    RecipeError,
    SemsearchError,
    StateError,
    StorageError,
    WeightsError,
)

if TYPE_CHECKING:
    from semsearch.api import AdaptResult, Domain, Index, IndexInfo
    from semsearch.encoders.custom import TextEncoder
    from semsearch.filters.expression import parse_filter
    from semsearch.filters.tree import Filter
    from semsearch.ingest.recipe import Recipe
    from semsearch.search.comparison import Comparison
    from semsearch.search.engine import Outcome, SearchEngine
    from semsearch.types import Click, Document, Hit, Label, Mode, Passage, Query, ScoreBreakdown, Sort

__version__ = "0.1.0"

__all__ = [
    "AdaptResult",
    "Click",
    "Comparison",
    "ConflictError",
    "DeadlineError",
    "Document",
    "Domain",
    "EncoderError",
    "Filter",
    "FilterError",
    "Hit",
    "Index",
    "IndexBusyError",
    "IndexFolderError",
    "IndexInfo",
    "IndexWriteError",
    "InputError",
    "Label",
    "LabelError",
    "Mode",
    "Outcome",
    "OverloadedError",
    "Passage",
    "Query",
    "QueryError",
    "Recipe",
    "RecipeError",
    "ScoreBreakdown",
    "SearchEngine",
    "SemsearchError",
    "Sort",
    "StateError",
    "StorageError",
    "TextEncoder",
    "WeightsError",
    "__version__",
    "parse_filter",
]

_LAZY_IMPORTS = {
    **dict.fromkeys(("AdaptResult", "Domain", "Index", "IndexInfo"), "semsearch.api"),
    **dict.fromkeys(("Outcome", "SearchEngine"), "semsearch.search.engine"),
    **dict.fromkeys(
        ("Click", "Document", "Hit", "Label", "Mode", "Passage", "Query", "ScoreBreakdown", "Sort"), "semsearch.types"
    ),
    "Comparison": "semsearch.search.comparison",
    "Filter": "semsearch.filters.tree",
    "Recipe": "semsearch.ingest.recipe",
    "TextEncoder": "semsearch.encoders.custom",
    "parse_filter": "semsearch.filters.expression",
}
"""Name → module, imported at its first use, because torch, FAISS and NumPy take seconds."""


def __getattr__(name: str) -> Any:
    if name in _LAZY_IMPORTS:
        return getattr(import_module(_LAZY_IMPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
