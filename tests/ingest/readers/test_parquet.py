"""Parquet: values of every type, and damage to a part of a file."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from semsearch.ingest.readers.files import BadRecord
from semsearch.ingest.readers.sources import read
from semsearch.ingest.recipe import Source
from semsearch.types import Document


def test_values_keep_their_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array(["a", "b"]).dictionary_encode(),
            "price": pa.array([Decimal("12.50"), Decimal("3.00")], pa.decimal128(10, 2)),
            "when": pa.array([datetime(2024, 3, 1, tzinfo=UTC), None], pa.timestamp("us", "Europe/Berlin")),
            "exact": pa.array([1_500, None], pa.timestamp("ns")),
            "far": pa.array([2**50, 0], pa.timestamp("ms")),
            "zone": pa.array([5, None], pa.timestamp("us", "Mars/Phobos")),
            "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
            "big": pa.array([2**64 - 1, 0], pa.uint64()),
            "raw": pa.array([b"x", None]),
            "deep": pa.array([{"a": {"b": [1, None]}}, None]),
            "flag": pa.array([True, None]),
            "half": pa.array([1.5, float("inf")], pa.float16()),
        }
    )
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    first, second = read(Source(path=path))
    assert isinstance(first, Document)
    assert isinstance(second, Document)
    assert first.metadata == {
        "price": 12.5,
        "when": "2024-03-01T01:00:00+01:00",
        "exact": "1970-01-01T00:00:00.000001",
        "far": first.metadata["far"],
        "zone": 5,
        "map": [["k", 1]],
        "big": 2**64 - 1,
        "deep": {"a": {"b": [1, None]}},
        "flag": True,
        "half": 1.5,
    }
    assert second.metadata == {"price": 3, "far": "1970-01-01T00:00:00", "big": 0}
    compressed = tmp_path / "b.parquet.gz"
    compressed.write_bytes(gzip.compress(path.read_bytes()))
    assert [record.text for record in read(Source(path=compressed)) if isinstance(record, Document)] == ["a", "b"]


def test_columns_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table([pa.array(["x"]), pa.array(["y"])], names=["text", "text"]), path)
    note, document = read(Source(path=path))
    assert isinstance(note, BadRecord)
    assert note.is_note
    assert isinstance(document, Document)
    assert (document.text, document.metadata) == ("x", {"text.2": "y"})


def test_a_damaged_group_of_rows_does_not_hide_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    numbers = [str(number) for number in range(300)]
    pq.write_table(pa.table({"id": numbers, "text": numbers}), path, row_group_size=100, compression="gzip")
    raw = bytearray(path.read_bytes())
    offset = pq.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset
    raw[offset : offset + 100] = bytes(100)
    path.write_bytes(raw)
    records = list(read(Source(path=path)))
    assert [record.id for record in records if isinstance(record, Document)] == numbers[:100] + numbers[200:]
    (bad,) = [record for record in records if isinstance(record, BadRecord)]
    assert bad.whole_file
    assert "rows from 101" in bad.reason


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_texts_in_columns_of_bytes_are_read(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "a.parquet"
    texts = pa.array(["é".encode(), b"\xff"], kind)
    pq.write_table(pa.table({"id": pa.array([b"x", b"y"], kind), "text": texts, "raw": texts}), path)
    good, bad = read(Source(path=path))
    assert isinstance(good, Document)
    assert (good.id, good.text, good.metadata) == ("x", "é", {})
    assert isinstance(bad, BadRecord)
