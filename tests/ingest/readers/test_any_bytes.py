"""No bytes of a text format raise an exception, and what is read of them is bounded by their size."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semsearch.ingest.readers.files import BadRecord
from semsearch.ingest.readers.sources import read
from semsearch.ingest.recipe import Source
from semsearch.types import Document, document_problem

FRAGMENTS = st.sampled_from(
    [
        b'{"text": "', b'"}', b"\n", b"[", b"]", b"{", b"}", b",", b"1e999", b"NaN", b"\\ud800", b"\\", b'"',
        b"---\n", b"title:", b"a: &a [*a]\n", b"date: 2024-13-45\n", b"!!int x", b"# H\n", b"<table><tr><td>", b"<!--",
        b"[^1]: ", b"- ", b"> ", b"```\n", b"![", b"](", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00", b"\xe9",
        b"\xc3", b"\x1b[0m", b"\r", b"\x08", b"\x0c", b"word ", b"\x1b$B",
    ]
)  # fmt: skip
CONTENT = st.binary(max_size=100) | st.lists(FRAGMENTS, max_size=40).map(b"".join)


@pytest.mark.parametrize("suffix", ["jsonl", "json", "md", "txt", "rst"])
@given(content=CONTENT, encoding=st.sampled_from(["utf-8", "cp1252", "utf-16"]))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_documents_or_bad_records(suffix: str, content: bytes, encoding: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a.{suffix}")
        path.write_bytes(content)
        records = list(read(Source(path=path, encoding=encoding)))
    assert records
    assert len(records) <= len(content) + 2
    for record in records:
        if isinstance(record, Document):
            assert document_problem(record) is None
            assert len(record.text) <= 20 * len(content)
        else:
            assert isinstance(record, BadRecord)
            assert f"{record}".encode()
