"""Compressed files: all of their streams are read, and one that is cut off, damaged or misnamed says so."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from semsearch.ingest.readers.files import BadRecord
from semsearch.ingest.readers.sources import read
from semsearch.ingest.recipe import Source
from semsearch.types import Document
from tests.ingest.readers.samples import compress_zstd, write

COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": compress_zstd}
ROWS = [b'{"id": "%d", "text": "row %d"}\n' % (number, number) for number in range(2_000)]


def read_rows(path: Path, raw: bytes) -> tuple[list[str], list[BadRecord]]:
    path.write_bytes(raw)
    records = list(read(Source(path=path)))
    texts = [record.text for record in records if isinstance(record, Document)]
    return texts, [record for record in records if isinstance(record, BadRecord)]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_all_streams_of_a_file_are_read(tmp_path: Path, suffix: str) -> None:
    compress = COMPRESS[suffix]
    streams = [compress(b"".join(ROWS[start : start + 500])) for start in range(0, 2_000, 500)]
    texts, bad = read_rows(tmp_path / f"a.jsonl{suffix}", b"".join(streams) + bytes(512))
    assert (len(texts), bad) == (2_000, [])


def test_skippable_frames_of_zstd_are_skipped(tmp_path: Path) -> None:
    frame = b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    texts, bad = read_rows(tmp_path / "a.jsonl.zst", frame + compress_zstd(ROWS[0]) + frame + compress_zstd(ROWS[1]))
    assert (texts, bad) == (["row 0", "row 1"], [])


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
def test_a_file_that_is_cut_off_is_never_read_as_if_whole(tmp_path: Path, suffix: str, name: str) -> None:
    raw = b"".join(ROWS) if name != "a.csv" else b"id,text\n" + b"".join(b"%d,row %d\n" % (n, n) for n in range(2_000))
    compressed = COMPRESS[suffix](raw)
    for share in (0.0, 0.01, 0.5, 0.9, 0.999):
        texts, bad = read_rows(tmp_path / f"{name}{suffix}", compressed[: int(len(compressed) * share)])
        assert len(texts) <= 2_000
        assert texts == [f"row {number}" for number in range(len(texts))] or name == "a.txt"
        (record,) = bad
        assert record.whole_file
        assert not record.is_empty


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("rest", [b"other data", b"\x1f\x8b", b"PK\x03\x04", b"\xff" * 100])
def test_data_after_the_last_stream_is_an_error(tmp_path: Path, suffix: str, rest: bytes) -> None:
    texts, (bad,) = read_rows(tmp_path / f"a.jsonl{suffix}", COMPRESS[suffix](b"".join(ROWS)) + rest)
    assert texts[:100] == [f"row {number}" for number in range(100)]
    assert bad.whole_file
    assert "cannot be read" in bad.reason


@pytest.mark.parametrize(
    ("name", "raw", "reason"),
    [
        ("a.txt.zst", gzip.compress(b"x"), "compressed by gzip, not by zstd: rename it to a.txt.gz"),
        ("a.txt.gz", compress_zstd(b"x"), "compressed by zstd, not by gzip: rename it to a.txt.zst"),
        ("a.txt.xz", b"plain words", "not compressed by xz: if it is not compressed, rename it to a.txt"),
        ("a.txt.gz", b"", "it has no bytes, and is not compressed by gzip"),
    ],
)
def test_a_wrong_suffix_is_named(tmp_path: Path, name: str, raw: bytes, reason: str) -> None:
    (bad,) = read(Source(path=write(tmp_path / name, raw)))
    assert isinstance(bad, BadRecord)
    assert bad.reason == f"cannot be read ({reason})"


def test_an_emptied_text_in_a_compressed_file_is_empty_and_was_read_whole(tmp_path: Path) -> None:
    for suffix, compress in COMPRESS.items():
        (bad,) = read(Source(path=write(tmp_path / f"a.txt{suffix}", compress(b""))))
        assert isinstance(bad, BadRecord)
        assert bad.is_empty
