"""Reads files that are one document each: text, Markdown, HTML, PDF, Word, OpenDocument, EPUB.

A file's headings and dates become metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pydantic import JsonValue

from semsearch.errors import first_line
from semsearch.ingest.readers.content import MAX_PACKED_BYTES, Content, RefusedError
from semsearch.ingest.readers.decoding import NotTextError, decode_text, refuse_binary, strip_terminal_codes
from semsearch.ingest.readers.docx import parse_docx
from semsearch.ingest.readers.epub import parse_epub
from semsearch.ingest.readers.files import (
    MAX_RECORD_BYTES,
    BadRecord,
    Reading,
    checked,
    clean,
    missing,
    read_bytes,
    stem,
)
from semsearch.ingest.readers.front_matter import split_front_matter
from semsearch.ingest.readers.html import parse_html
from semsearch.ingest.readers.markdown import parse_markdown
from semsearch.ingest.readers.odt import parse_odt
from semsearch.ingest.readers.pdf import parse_pdf
from semsearch.ingest.recipe import Source
from semsearch.types import Document

MAX_HEADINGS = 30
"""Headings stored as metadata."""


def read_text(path: Path, name: str, source: Source) -> Reading:
    """Plain text."""
    for read in _read_decoded(path, source):
        if isinstance(read, str):
            yield _document(path, name, text=strip_terminal_codes(read))
        else:
            yield read


def read_markdown(path: Path, name: str, source: Source) -> Reading:
    """CommonMark with tables and footnotes; the fields of YAML front matter become metadata."""
    for read in _read_decoded(path, source):
        if isinstance(read, BadRecord):
            yield read
            continue
        matter, text = split_front_matter(read)
        page = parse_markdown(text)
        title = matter.title or next(iter(page.headings), "") or page.title
        text = f"{matter.text}\n\n{page.text}"
        yield _document(path, name, title=title, text=text, headings=page.headings, metadata=matter.metadata)
        if matter.problem:
            yield BadRecord(f"{path}:1", f"its front matter is indexed as text ({matter.problem})", is_note=True)


def _read_decoded(path: Path, source: Source) -> Iterator[str | BadRecord]:
    """The text of a file that is one document, or why it cannot be read; and what is to be reported about a text."""
    raw = read_bytes(path, max_bytes=MAX_RECORD_BYTES)
    if isinstance(raw, BadRecord):
        yield raw
        return
    try:
        decoded = decode_text(raw, source.encoding)
    except NotTextError as error:
        location = f"{path}" if error.line is None else f"{path}:{error.line}"
        yield BadRecord(location, str(error), whole_file=True)
        return
    yield decoded.text
    if decoded.remark and decoded.text.strip():
        yield BadRecord(str(path), decoded.remark, is_loss=decoded.is_loss, is_note=not decoded.is_loss)


def read_html(path: Path, name: str, source: Source) -> Reading:
    """A web page."""
    raw = read_bytes(path, max_bytes=MAX_RECORD_BYTES)
    if isinstance(raw, BadRecord):
        yield raw
        return
    try:
        refuse_binary(raw)
    except NotTextError as error:
        yield BadRecord(str(path), str(error), whole_file=True)
        return
    page = parse_html(raw, source.encoding)
    metadata: dict[str, JsonValue] = {"date": page.date, "lang": page.language}
    yield _document(path, name, title=page.title, text=page.text, headings=page.headings, metadata=metadata)


def read_pdf(path: Path, name: str, source: Source) -> Reading:  # noqa: ARG001 - the signature of a reader
    """PDF: the text of all pages, with the values of forms."""
    yield from _parse(path, name, parse_pdf, "PDF", library=("pypdfium2", "pdf"))


def read_docx(path: Path, name: str, source: Source) -> Reading:  # noqa: ARG001 - the signature of a reader
    """Word: what the printed pages show, in order."""
    yield from _parse(path, name, parse_docx, "a Word document", library=None)


def read_odt(path: Path, name: str, source: Source) -> Reading:  # noqa: ARG001 - the signature of a reader
    """OpenDocument text: what the printed pages show, in order."""
    yield from _parse(path, name, parse_odt, "an OpenDocument text", library=None)


def read_epub(path: Path, name: str, source: Source) -> Reading:  # noqa: ARG001 - the signature of a reader
    """EPUB: the chapters of a book in reading order, as one document."""
    yield from _parse(path, name, parse_epub, "EPUB", library=None)


def _parse(
    path: Path, name: str, parse: Callable[[bytes], Content], kind: str, *, library: tuple[str, str] | None
) -> Reading:
    """Read a file of a binary format: one document, and a bad record for each part that could not be read.

    kind: the format's name in error messages. library: the optional package that `parse` needs, and its extra.
    """
    raw = read_bytes(path, max_bytes=MAX_PACKED_BYTES)
    if isinstance(raw, BadRecord):
        yield raw
        return
    try:
        content = parse(raw)
    except ImportError:
        assert library is not None
        yield BadRecord(str(path), missing(*library), whole_file=True)
    except RefusedError as error:
        yield BadRecord(str(path), str(error), whole_file=True)
    except Exception as error:  # noqa: BLE001 - a parser may raise anything for a damaged file
        yield BadRecord(str(path), f"cannot be read as {kind} ({first_line(error)[:200]})", whole_file=True)
    else:
        if content.losses and not content.text.strip():
            yield BadRecord(str(path), f"no text could be read: {'; '.join(content.losses)[:500]}", whole_file=True)
            return
        yield _document(
            path,
            name,
            title=content.title,
            text=content.text,
            headings=content.headings,
            metadata=content.metadata,
        )
        yield from (BadRecord(str(path), reason, is_loss=True) for reason in content.losses)


def _document(
    path: Path,
    name: str,
    *,
    text: str,
    title: str = "",
    headings: list[str] | None = None,
    metadata: Mapping[str, JsonValue] | None = None,
) -> Document | BadRecord:
    text = clean(text)
    if not text:
        return BadRecord(str(path), "an empty document: it has no text", whole_file=True, is_empty=True)
    fields: dict[str, JsonValue] = {key: value for key, value in (metadata or {}).items() if value not in (None, "")}
    if headings and "headings" not in fields:
        fields["headings"] = list[JsonValue](dict.fromkeys(filter(None, map(clean, headings))))[:MAX_HEADINGS]
    return checked(Document(name, clean(title) or stem(path), text, name, fields), str(path))
