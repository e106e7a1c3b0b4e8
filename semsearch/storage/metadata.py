"""Documents' metadata by field and value, in the documents' SQLite file, and filters on it as SQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from semsearch.filters.tree import And, Comparison, FieldValue, Filter, Not, Or, normalize_value

SCHEMA = """
CREATE TABLE facts (
    name TEXT NOT NULL,
    value ANY NOT NULL,
    document INTEGER NOT NULL REFERENCES documents (row),
    PRIMARY KEY (name, value, document)
) STRICT, WITHOUT ROWID
"""
ADD = "INSERT OR IGNORE INTO facts VALUES (?, ?, ?)"

# SQLite orders all numbers before all texts: each kind is one range of values
_TEXT = "value >= ''"
_NUMBER = "value < ''"
_DATE = "value >= '0' AND value < ':'"


def where(tree: Filter) -> tuple[str, list[Any]]:
    """Return a filter as an SQL expression over `documents.row`, and its parameters."""
    if isinstance(tree, Not):
        inner, values = where(tree.operand)
        return f"NOT ({inner})", values
    if isinstance(tree, And | Or):
        operands = [where(operand) for operand in (tree.all_of if isinstance(tree, And) else tree.any_of)]
        joined = (" AND " if isinstance(tree, And) else " OR ").join(f"({test})" for test, _ in operands)
        return joined, [value for _, values in operands for value in values]
    test, values = _comparison_test(tree)
    within = "NOT IN" if tree.exists is False else "IN"
    return f"row {within} (SELECT document FROM facts WHERE {test})", values  # noqa: S608 (names and values are bound)


def _comparison_test(tree: Comparison) -> tuple[str, list[Any]]:
    name = tree.field
    if tree.exists is not None:
        # a nested object has no value itself, but its fields do: their names begin with `name.`, and `/` follows `.`
        return "name = ? OR (name >= ? AND name < ?)", [name, f"{name}.", f"{name}/"]
    if tree.eq is not None:
        return "name = ? AND value = ?", [name, normalize_value(tree.eq)]
    if tree.one_of is not None:
        values = [normalize_value(value) for value in tree.one_of]
        return f"name = ? AND value IN ({','.join('?' * len(values))})", [name, *values]
    if tree.prefix is not None:
        return "name = ? AND value >= ? AND value < ?", [name, tree.prefix, f"{tree.prefix}\U0010ffff"]
    test, values = _bounds_test(tree.bounds)
    year_bounds = tree.year_bounds
    if not year_bounds:
        return f"name = ? AND {test}", [name, *values]
    # a year is compared with numbers as a number, and with dates as a text
    date_test, date_values = _bounds_test(year_bounds)
    return f"name = ? AND (({test}) OR ({_DATE} AND {date_test}))", [name, *values, *date_values]


def _bounds_test(bounds: Mapping[str, FieldValue]) -> tuple[str, list[Any]]:
    same_kind = _TEXT if any(isinstance(bound, str) for bound in bounds.values()) else _NUMBER
    return " AND ".join([same_kind, *(f"value {sign} ?" for sign in bounds)]), list(bounds.values())
