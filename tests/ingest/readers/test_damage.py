"""No exception escapes a reader, whatever bytes a file has."""

from __future__ import annotations

import gzip
import io
import lzma
import zipfile
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semsearch.ingest.readers.sources import read
from semsearch.ingest.recipe import Source
from tests.ingest.readers.samples import compress_zstd, docx_bytes, odt_bytes, pdf_bytes, zip_bytes

TABLE = b'id,text,x\n1,"a, ""b""\nc",2\n2;d,3\n' * 3


@cache
def sample(name: str) -> bytes:
    table = io.BytesIO()
    pq.write_table(pa.table({"id": ["1", "2"], "text": ["x", "y"], "n": [[1], None]}), table)
    paragraph = "<w:p><w:r><w:t>words</w:t><w:footnoteReference w:id='1'/></w:r></w:p>"
    book = {"META-INF/container.xml": '<rootfile full-path="b.opf"/>', "a.xhtml": "<p>words</p>"}
    book["b.opf"] = '<package><item id="a" href="a.xhtml"/><itemref idref="a"/></package>'
    return {
        "a.docx": docx_bytes(paragraph * 3, styles="<w:styles/>"),
        "a.odt": odt_bytes("<text:h>one</text:h><text:p>two<text:s/></text:p>", meta="<x/>"),
        "a.epub": zip_bytes(book),
        "a.pdf": pdf_bytes("words", "more", form="value"),
        "a.parquet": table.getvalue(),
        "a.csv": TABLE,
        "a.tsv": TABLE.replace(b",", b"\t"),
        "a.csv.gz": gzip.compress(TABLE),
        "a.csv.xz": lzma.compress(TABLE),
        "a.csv.zst": compress_zstd(TABLE) * 2,
    }[name]


changes = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8)
NAMES = ["a.docx", "a.odt", "a.epub", "a.parquet", "a.csv", "a.tsv", "a.csv.gz", "a.csv.xz", "a.csv.zst"]


def damage(raw: bytes, flips: list[tuple[float, int]], end: float) -> bytes:
    damaged = bytearray(raw)
    for position, value in flips:
        damaged[int(position * len(damaged))] ^= value
    return bytes(damaged[: int(end * len(damaged)) + 1])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=changes, end=st.one_of(st.just(1.0), st.floats(0, 1)))
def test_damage_is_reported_and_never_raised(
    tmp_path: Path, name: str, flips: list[tuple[float, int]], end: float
) -> None:
    path = tmp_path / name
    path.write_bytes(damage(sample(name), flips, end))
    assert all(record is not None for record in read(Source(path=path)))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=changes, end=st.one_of(st.just(1.0), st.floats(0, 1)))
def test_damage_to_a_pdf_is_reported_and_never_raised(
    tmp_path: Path, flips: list[tuple[float, int]], end: float
) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(damage(sample("a.pdf"), flips, end))
    assert all(record is not None for record in read(Source(path=path)))


@pytest.mark.parametrize("name", ["a.docx", "a.odt", "a.epub"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=changes, end=st.one_of(st.just(1.0), st.floats(0, 1)), part=st.integers(0, 9))
def test_damage_inside_a_zip_file_is_reported_and_never_raised(
    tmp_path: Path, name: str, flips: list[tuple[float, int]], end: float, part: int
) -> None:
    with zipfile.ZipFile(io.BytesIO(sample(name))) as archive:
        parts = {entry: archive.read(entry) for entry in archive.namelist()}
    damaged = sorted(parts)[part % len(parts)]
    parts[damaged] = damage(parts[damaged], flips, end)
    path = tmp_path / name
    path.write_bytes(zip_bytes(parts))
    assert all(record is not None for record in read(Source(path=path)))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet='id,text;\t|"\n\r x\x00é', max_size=80))
def test_any_table_is_read_without_an_exception(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,text\n" + text.encode())
    assert all(record is not None for record in read(Source(path=path)))
