"""Documents' metadata by field and value, in the documents' SQLite file, and filters on it as SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, TypeAlias

from semsearch.filters.tree import And, Comparison, Filter, Not, Or, Range
from semsearch.filters.values import Kind, TypedValue, normalize

_COLUMNS = """(
    name TEXT NOT NULL,
    kind INTEGER NOT NULL,
    value ANY NOT NULL,
    text TEXT,
    document INTEGER NOT NULL REFERENCES documents (row),
    PRIMARY KEY (name, kind, value, document)
) STRICT, WITHOUT ROWID"""
SCHEMA = f"CREATE TABLE facts {_COLUMNS}"
ADD = "INSERT OR IGNORE INTO facts VALUES (?, ?, ?, ?, ?)"

Parameters: TypeAlias = list[Any]


def row(name: str, value: TypedValue, document: int) -> tuple[object, ...]:
    """Return the row of a value, for `ADD`. The text is kept if it is not the key itself."""
    return name, int(value.kind), value.key, None if value.kind is Kind.TEXT else value.text, document


def typed_value(kind: int, key: str | int | float, text: str | None) -> TypedValue:
    """Return the value of a row."""
    return TypedValue(Kind(kind), key, str(key) if text is None else text)


def has_kinds(connection: sqlite3.Connection) -> bool:
    """Whether the file's values have a kind. Those of semsearch 0.1 have none."""
    columns = connection.execute("SELECT name FROM pragma_table_info('facts', 'main')").fetchall()
    return ("kind",) in columns


def replace_for_connection(connection: sqlite3.Connection, rows: Iterable[tuple[object, ...]]) -> None:
    """Give the connection other values, in a temporary table that it uses instead of the file's."""
    connection.execute("DROP TABLE IF EXISTS temp.facts")  # of an attempt that failed
    connection.execute(f"CREATE TEMP TABLE facts {_COLUMNS.replace(' REFERENCES documents (row)', '')}")
    connection.executemany(ADD.replace("facts", "temp.facts"), rows)


def where(tree: Filter) -> tuple[str, Parameters]:
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


def has_field(name: str) -> tuple[str, Parameters]:
    """Return an SQL expression that tells whether any document has the field or a field of the object `name`."""
    test, values = _exists_test(name)
    return f"EXISTS (SELECT 1 FROM facts WHERE {test})", values  # noqa: S608 (the name is bound)


def _comparison_test(tree: Comparison) -> tuple[str, Parameters]:
    if tree.exists is not None:
        return _exists_test(tree.field)
    if tree.prefix is not None:
        test, values = _prefix_test(tree.prefix)
    elif equal := tree.values:
        test = f"(kind, value) IN (VALUES {','.join(['(?, ?)'] * len(equal))})"
        values = [part for value in equal for part in (int(value.kind), value.key)]
    else:
        ranges = [_range_test(values_range) for values_range in tree.ranges]
        test = " OR ".join(f"({range_test})" for range_test, _ in ranges)
        values = [value for _, range_values in ranges for value in range_values]
    return f"name = ? AND ({test})", [tree.field, *values]


def _exists_test(name: str) -> tuple[str, Parameters]:
    # a nested object has no value itself, but its fields do: their names begin with `name.`, and `/` follows `.`
    return "name = ? OR (name >= ? AND name < ?)", [name, f"{name}.", f"{name}/"]


def _range_test(values: Range) -> tuple[str, Parameters]:
    tests = ["kind BETWEEN ? AND ?"]
    parameters: Parameters = [int(values.first), int(values.last)]
    for sign, kind, key in values.bounds:
        tests.append(f"(kind, value) {sign} (?, ?)")
        parameters += [int(kind), key]
    return " AND ".join(tests), parameters


def _prefix_test(prefix: str) -> tuple[str, Parameters]:
    prefix = normalize(prefix)
    after = _after(prefix)
    tests, parameters = [], []
    for kinds, column in (("kind = ?", "value"), ("kind <> ?", "text")):
        tests.append(f"({kinds} AND {column} >= ?" + (f" AND {column} < ?)" if after else ")"))
        parameters += [int(Kind.TEXT), prefix, *([after] if after else [])]
    return " OR ".join(tests), parameters


def _after(prefix: str) -> str:
    """The first text that follows all texts with this prefix; empty if there is none."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return ""
    last = ord(stem[-1]) + 1
    # the code points of surrogates are not valid in texts
    return stem[:-1] + chr(0xE000 if 0xD800 <= last <= 0xDFFF else last)
