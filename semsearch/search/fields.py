"""Checks the metadata fields that a query names, and tells why a filter cannot match. Does not depend on HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from semsearch.errors import FilterError, QueryError
from semsearch.filters.tree import Comparison, Filter, comparisons
from semsearch.filters.values import Kind
from semsearch.storage.corpus import Corpus
from semsearch.types import Sort

LISTED_NAMES = 20
"""Field names listed in an error."""


def check_filter(corpus: Corpus, query_filter: Filter | None) -> None:
    """Raise FilterError if no document has a field that the filter names."""
    for comparison in _comparisons(query_filter):
        if not corpus.has_field(comparison.field):
            raise FilterError(f"the filter's field {_unknown(corpus, comparison.field)}")


def check_sort(corpus: Corpus, sort: Sort | None) -> None:
    """Raise QueryError if no document has the field to sort by."""
    if sort is not None and not corpus.has_field(sort.field):
        raise QueryError(f"the sort field {_unknown(corpus, sort.field)}", field="sort")


def check_facets(corpus: Corpus, facets: Iterable[str]) -> None:
    """Raise QueryError if no document has a facet's field."""
    for name in facets:
        if not corpus.has_field(name):
            several = "; give `facets` once for each field" if "," in name else ""
            raise QueryError(f"the facet {_unknown(corpus, name)}{several}", field="facets")


def filter_notes(corpus: Corpus, query_filter: Filter | None) -> list[str]:
    """Return a sentence for each comparison that cannot match because the field's values are of another kind."""
    notes = {}
    for comparison in _comparisons(query_filter):
        if kinds := corpus.unmet_kinds(comparison):
            notes[comparison.field] = (
                f"the field `{comparison.field}` holds {_labels(kinds)}, and the filter compares it with"
                f" {_labels(comparison.kinds)}: {_remedy(comparison, kinds)}"
            )
    return list(notes.values())


def _comparisons(query_filter: Filter | None) -> list[Comparison]:
    return [] if query_filter is None else [comparison for comparison, _ in comparisons(query_filter)]


def _labels(kinds: Iterable[Kind]) -> str:
    return " and ".join(dict.fromkeys(f"{kind.label}s" for kind in sorted(kinds)))


def _remedy(comparison: Comparison, kinds: Iterable[Kind]) -> str:
    if {kind.label for kind in kinds} == {"text"}:
        return f"write texts in quotation marks, or give the field a type in the recipe (types.{comparison.field})"
    return "write numbers and booleans without quotation marks"


def _unknown(corpus: Corpus, name: str) -> str:
    names = corpus.field_names()
    nearest = get_close_matches(name, names, 1)
    listed = ", ".join(names[:LISTED_NAMES]) + (
        f" and {len(names) - LISTED_NAMES} more" if len(names) > LISTED_NAMES else ""
    )
    guess = f": use {nearest[0]!r}?" if nearest else ""
    return f"{name[:200]!r} is in no document{guess} (the fields are {listed})"
