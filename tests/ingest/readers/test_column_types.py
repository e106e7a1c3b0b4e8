"""Types of metadata fields: of a table's columns as a whole, and those that a source sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semsearch.encoders.encoder import Encoder
from semsearch.filters.expression import parse_filter
from semsearch.ingest.readers.files import BadRecord
from semsearch.ingest.readers.sources import read
from semsearch.ingest.recipe import Source
from semsearch.search.engine import SearchEngine
from semsearch.types import Document, Query
from tests.conftest import build_index, hits_of, write_jsonl


def table(path: Path, values: Sequence[str], *, column: str = "x") -> Path:
    rows = [f"text,{column}", *(f'row {number},"{value}"' for number, value in enumerate(values))]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def values_and_notes(source: Source, field: str = "x") -> tuple[list[Any], list[str]]:
    records = list(read(source))
    values = [record.metadata.get(field) for record in records if isinstance(record, Document)]
    return values, [record.reason for record in records if isinstance(record, BadRecord) and record.is_note]


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["1", "-2", "+3"], [1, -2, 3]),
        (["0.8472317894561234", "1e-05", "2.5e+10"], [0.8472317894561234, 1e-05, 2.5e10]),
        (["1234567890123456789", "12345678901234567890123"], [1234567890123456789, 12345678901234567890123]),
        (["5", "", "7"], [5, None, 7]),
        (["True", "false", "TRUE"], [True, False, True]),
        (["true", "1"], ["true", "1"]),
        (["007", "7"], ["007", "7"]),
        (["1.10.1", "1.2.0"], ["1.10.1", "1.2.0"]),
        (["2024-03-01", "2024-03-02"], ["2024-03-01", "2024-03-02"]),
        (["inf", "nan"], ["inf", "nan"]),
    ],
)
def test_a_column_has_one_type(texts: list[str], values: list[Any], tmp_path: Path) -> None:
    read_values, _ = values_and_notes(Source(path=table(tmp_path / "t.csv", texts)))
    assert read_values == values
    assert list(map(type, read_values)) == list(map(type, values))


def test_a_number_column_with_one_other_value_holds_texts_and_is_reported(tmp_path: Path) -> None:
    values, notes = values_and_notes(Source(path=table(tmp_path / "t.csv", ["10", "20", "n.d.", "2.50"])))
    assert values == ["10", "20", "n.d.", "2.50"]
    assert notes == [
        "column 'x' holds texts, because 1 of 4 values are not numbers, such as 'n.d.' in t.csv:4: correct them, or set"
        " types.x in the recipe"
    ]


def test_a_column_of_texts_among_which_are_few_numbers_is_not_reported(tmp_path: Path) -> None:
    assert values_and_notes(Source(path=table(tmp_path / "t.csv", ["a", "b", "1984"])))[1] == []


@pytest.mark.parametrize(
    ("field_type", "texts", "values", "failures"),
    [
        ("text", ["1.10", "1.1"], ["1.10", "1.1"], 0),
        ("number", ["10", "n.d.", "2.50"], [10, "n.d.", 2.5], 1),
        ("boolean", ["true", "1"], [True, "1"], 1),
    ],
)
def test_a_source_sets_the_type_of_a_column(
    field_type: str, texts: list[str], values: list[Any], failures: int, tmp_path: Path
) -> None:
    source = Source.model_validate({"path": table(tmp_path / "t.csv", texts), "types": {"x": field_type}})
    read_values, notes = values_and_notes(source)
    assert read_values == values
    assert len(notes) == bool(failures)
    assert all(f"field 'x': {failures} values are no {field_type}" in note for note in notes)


@pytest.mark.parametrize(
    ("field_type", "value", "converted"),
    [
        ("number", "2019", 2019),
        ("number", ["1", 2], [1, 2]),
        ("text", 2019, "2019"),
        ("text", True, "true"),
        ("boolean", "True", True),
        ("number", True, True),
        ("number", {"a": "1"}, {"a": "1"}),
    ],
)
def test_a_source_sets_the_type_of_a_json_field(field_type: str, value: Any, converted: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", [{"text": "some text", "x": value}])
    values, _ = values_and_notes(Source.model_validate({"path": path, "types": {"x": field_type}}))
    assert values == [converted]
    assert type(values[0]) is type(converted)


def test_json_keeps_its_types(tmp_path: Path) -> None:
    originals: list[Any] = ["2019", 2019, "1.10", True, 1.5, ["1", 1]]
    path = write_jsonl(tmp_path / "t.jsonl", [{"text": "some text", "x": value} for value in originals])
    values, _ = values_and_notes(Source(path=path))
    assert values == originals
    assert list(map(type, values)) == list(map(type, originals))


def test_a_table_of_floats_is_filtered_as_numbers(tmp_path: Path, tiny_model: Path, tiny_encoder: Encoder) -> None:
    numbers = [*np.random.default_rng(0).normal(0, 1e6, 40).tolist(), 1e-05, 2.5e10, -3e-12, 0.0]
    table(tmp_path / "t.csv", [str(number) for number in numbers])
    build_index(tmp_path / "t", tmp_path / "t.csv", model=tiny_model)
    engine = SearchEngine.open(tmp_path / "t", encoder=tiny_encoder)
    for bound in (0, 1e-06, 1000, -3e-12, 2.5e10):
        for sign, holds in ((">", float.__gt__), ("<=", float.__le__)):
            query = Query("row", k=100, filter=parse_filter(f"x {sign} {bound}"))
            [hits] = hits_of(engine, [query])
            expected = {number for number in numbers if holds(number, float(bound))}
            assert {hit.metadata["x"] for hit in hits} == expected
    engine.close()
