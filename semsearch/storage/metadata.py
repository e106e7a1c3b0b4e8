"""Documents' metadata by field and value, in the documents' SQLite file: a bitmap of documents for each value."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeAlias

from pyroaring import BitMap

from semsearch.filters.tree import And, Comparison, Filter, Not, Or, Range
from semsearch.filters.values import OWN_FIELDS, Key, Kind, TypedValue, normalize

SCHEMA = """
CREATE TABLE facts (
    name TEXT NOT NULL,
    kind INTEGER NOT NULL,
    value ANY NOT NULL,
    text TEXT NOT NULL,
    documents BLOB NOT NULL,
    PRIMARY KEY (name, kind, value, text)
) STRICT, WITHOUT ROWID;
CREATE TEMP TABLE values_by_document (
    name TEXT NOT NULL,
    kind INTEGER NOT NULL,
    value ANY NOT NULL,
    text TEXT NOT NULL,
    document INTEGER NOT NULL,
    PRIMARY KEY (name, kind, value, text, document)
) STRICT, WITHOUT ROWID
"""
ADD = "INSERT OR IGNORE INTO values_by_document VALUES (?, ?, ?, ?, ?)"
FINISH = """
INSERT INTO facts SELECT name, kind, value, text, bitmap(document) FROM values_by_document
GROUP BY name, kind, value, text
"""
"""Stores the documents of each value as a bitmap. Needs `register_bitmap`."""

MAX_VALUE_TERMS = 1_000
"""Values of one comparison that keyword search looks for itself."""

MAX_FACET_VALUES = 1_000
"""Values of a field whose documents are counted by their bitmaps."""

Parameters: TypeAlias = list[Any]

Select: TypeAlias = Callable[[str, Parameters], Iterator[Sequence[tuple[Any, ...]]]]
"""Runs a query and yields its rows in batches, none of them empty."""


class _Bitmap:
    """An aggregate function: the bitmap of all rows, as bytes."""

    def __init__(self) -> None:
        self._rows = BitMap()

    def step(self, row: int) -> None:
        self._rows.add(row)

    def finalize(self) -> bytes:
        return self._rows.serialize()


def register_bitmap(connection: sqlite3.Connection) -> None:
    """Give a connection the function `bitmap` that `FINISH` uses."""
    # typeshed takes every aggregate for an integer
    connection.create_aggregate("bitmap", 1, _Bitmap)  # type: ignore[arg-type]


def row(name: str, value: TypedValue, document: int) -> tuple[object, ...]:
    """Return the row of a value, for `ADD`. The text is kept if it is not the key itself."""
    return name, int(value.kind), value.key, "" if value.kind is Kind.TEXT else value.text, document


def value_term(name: str, kind: Kind, key: Key) -> str:
    """Return a text without spaces that stands for a value of a field: equal for equal values, and for no others.

    Collisions of its 96-bit hash do not count.
    """
    # equal numbers have one form
    exact = int(key) if isinstance(key, float) and key.is_integer() else key
    return hashlib.blake2b(f"{name}\0{int(kind)}\0{exact!r}".encode(), digest_size=12).hexdigest()


def value_terms(tree: Comparison, connection: sqlite3.Connection) -> list[str] | None:
    """Return the texts of which a document that matches the comparison has at least one, and no other document.

    None for a document's own field, and if there are more than MAX_VALUE_TERMS.
    """
    if tree.field in OWN_FIELDS:
        return None
    if equal := tree.values:
        return [value_term(tree.field, value.kind, value.key) for value in equal]
    test, values = _comparison_test(tree)
    select = f"SELECT DISTINCT name, kind, value FROM facts WHERE {test} LIMIT {MAX_VALUE_TERMS + 1}"  # noqa: S608
    found = connection.execute(select, values).fetchall()
    # equal numbers and dates may be written in several ways, of which a prefix is one of some
    if len(found) > MAX_VALUE_TERMS or (tree.prefix is not None and any(kind != Kind.TEXT for _, kind, _ in found)):
        return None
    return [value_term(name, Kind(kind), key) for name, kind, key in found]


def has_kinds(connection: sqlite3.Connection) -> bool:
    """Whether the file's values have a kind. Those of semsearch 0.1 have none."""
    columns = connection.execute("SELECT name FROM pragma_table_info('facts', 'main')").fetchall()
    return ("kind",) in columns


def matching(tree: Filter, select: Select, count: int) -> BitMap:
    """Return the rows of the documents that match a filter. count: number of documents."""
    if isinstance(tree, Not):
        return matching(tree.operand, select, count).flip(0, count)
    if isinstance(tree, And | Or):
        parts = [matching(part, select, count) for part in (tree.all_of if isinstance(tree, And) else tree.any_of)]
        return BitMap.intersection(*parts) if isinstance(tree, And) else BitMap.union(*parts)
    test, values = _comparison_test(tree)
    within = BitMap()
    for batch in select(f"SELECT documents FROM facts WHERE {test}", values):  # noqa: S608 (names and values are bound)
        within |= BitMap.union(*(BitMap.deserialize(documents) for (documents,) in batch))
    return within.flip(0, count) if tree.exists is False else within


def facet_counts(name: str, documents: BitMap, connection: sqlite3.Connection) -> dict[TypedValue, int] | None:
    """Count the documents in these rows by their value of the field `name`; None if it has over MAX_FACET_VALUES."""
    rows = connection.execute(
        "SELECT kind, value, text, documents FROM facts WHERE name = ? LIMIT ?", (name, MAX_FACET_VALUES + 1)
    ).fetchall()
    if len(rows) > MAX_FACET_VALUES:
        return None
    counts: dict[TypedValue, int] = {}
    for (kind, key), group in groupby(rows, key=itemgetter(0, 1)):
        holders = {text: BitMap.deserialize(bitmap) & documents for _, _, text, bitmap in group}
        if count := len(BitMap.union(BitMap(), *holders.values())):
            text = min(text for text, counted in holders.items() if counted)
            counts[TypedValue(Kind(kind), key, text or str(key))] = count
    return counts


def stray_rows(connection: sqlite3.Connection, count: int) -> int:
    """Return the number of values that belong to documents in rows from `count` on, which there are not."""
    stray = 0
    for (documents,) in connection.execute("SELECT documents FROM facts"):
        try:
            rows = BitMap.deserialize(documents)
        except ValueError:
            stray += 1
        else:
            stray += bool(rows) and rows.max() >= count
    return stray


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
