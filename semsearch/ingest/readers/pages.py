"""Reads files that are one document each: text, Markdown, HTML, PDF, Word, EPUB.

A file's headings and dates become metadata.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml
from markdown_it import MarkdownIt
from pydantic import JsonValue
from resiliparse.parse.html import HTMLTree

from semsearch.errors import first_line
from semsearch.ingest.readers.content import MAX_PACKED_BYTES, Content, RefusedError, refuse_bombs
from semsearch.ingest.readers.files import (
    MAX_RECORD_BYTES,
    BadRecord,
    Reading,
    as_json,
    checked,
    clean,
    missing,
    read_bytes,
    read_whole_text,
    stem,
)
from semsearch.ingest.readers.html import decode_html, parse_html
from semsearch.ingest.readers.office import parse_docx
from semsearch.ingest.readers.pdf import parse_pdf
from semsearch.ingest.recipe import Source
from semsearch.types import Document

MAX_HEADINGS = 30
"""Headings stored as metadata."""
_NOT_TEXT = ("image/", "audio/", "video/", "font/", "text/css", "text/javascript", "application/javascript")
"""Media types of items that are not chapters of a book."""
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?\n)(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)


def read_text(path: Path, name: str, source: Source) -> Reading:
    """Plain text."""
    text = read_whole_text(path, source.encoding)
    yield text if isinstance(text, BadRecord) else _document(path, name, text=text)


def read_markdown(path: Path, name: str, source: Source) -> Reading:
    """CommonMark with tables; the fields of YAML front matter become metadata."""
    text = read_whole_text(path, source.encoding)
    if isinstance(text, BadRecord):
        yield text
        return
    text = text.replace("\r\n", "\n")
    metadata, text = _front_matter(text)
    blocks, headings = [], []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for previous, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "inline":
            block = "".join(child.content or "\n" * (child.type == "softbreak") for child in token.children or [])
            if previous is not None and previous.type == "heading_open":
                headings.append(block)
            blocks.append(block)
        elif token.type in {"fence", "code_block"}:
            blocks.append(token.content)
    title = str(metadata.pop("title", "")) or next(iter(headings), "")
    yield _document(path, name, title=title, text="\n\n".join(blocks), headings=headings, metadata=metadata)


def read_html(path: Path, name: str, source: Source) -> Reading:
    """A web page."""
    raw = read_bytes(path, max_bytes=MAX_RECORD_BYTES)
    if isinstance(raw, BadRecord):
        yield raw
        return
    page = parse_html(raw, source.encoding)
    metadata: dict[str, JsonValue] = {"date": page.date, "lang": page.language}
    yield _document(path, name, title=page.title, text=page.text, headings=page.headings, metadata=metadata)


def read_pdf(path: Path, name: str, source: Source) -> Reading:  # noqa: ARG001 - the signature of a reader
    """PDF: the text of all pages."""
    yield from _parse(path, name, parse_pdf, "PDF", library=("pypdf", "pdf"))


def read_docx(path: Path, name: str, source: Source) -> Reading:  # noqa: ARG001 - the signature of a reader
    """Word: paragraphs and tables, in order."""
    yield from _parse(path, name, parse_docx, "a Word document", library=("python-docx", "docx"))


def read_epub(path: Path, name: str, source: Source) -> Reading:  # noqa: ARG001 - the signature of a reader
    """EPUB: the chapters of a book in reading order, as one document."""
    yield from _parse(path, name, _epub, "EPUB", library=None)


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
        yield _document(
            path,
            name,
            title=content.title,
            text=content.text,
            headings=content.headings,
            metadata=content.metadata,
        )
        yield from (BadRecord(str(path), reason, is_loss=True) for reason in content.losses)


def _epub(raw: bytes) -> Content:
    refuse_bombs(raw)
    with zipfile.ZipFile(BytesIO(raw)) as book:
        root = _xml(book.read("META-INF/container.xml")).query_selector("rootfile")
        package_path = (root.getattr("full-path") if root is not None else None) or ""
        package = _xml(book.read(package_path))
        # slices: iterating over a list of nodes takes quadratic time
        items = {node.getattr("id"): node for node in package.query_selector_all("item")[:]}
        spine = [node.getattr("idref") for node in package.query_selector_all("itemref")[:]]
        chapters, losses = [], []
        for name in spine:
            item = items.get(name)
            href = item.getattr("href") if item is not None else None
            if item is None or not href:
                losses.append(f"its chapter {name!r} has no file")
                continue
            if (item.getattr("media-type") or "").lower().startswith(_NOT_TEXT):
                continue
            path = posixpath.normpath(posixpath.join(posixpath.dirname(package_path), unquote(href)))
            try:
                chapters.append(parse_html(book.read(path)))
            except KeyError:
                losses.append(f"its chapter {path!r} is missing")
    metadata: dict[str, JsonValue] = {
        "author": _dublin_core(package, "creator"),
        "date": _dublin_core(package, "date"),
        "lang": _dublin_core(package, "language"),
    }
    return Content(
        _dublin_core(package, "title"),
        "\n\n".join(chapter.text for chapter in chapters),
        [heading for chapter in chapters for heading in chapter.headings],
        metadata,
        losses,
    )


def _xml(raw: bytes) -> Any:
    """The document node of an XML file, parsed leniently, as a parser of HTML does."""
    return HTMLTree.parse(decode_html(raw)).document


def _front_matter(text: str) -> tuple[dict[str, JsonValue], str]:
    """The fields of a Markdown text's front matter, and the rest; front matter that is not YAML is dropped."""
    match = _FRONT_MATTER.match(text)
    if match is None:
        return {}, text
    try:
        values = yaml.safe_load(match[1])
    except yaml.YAMLError:
        values = None
    metadata = {str(key): as_json(value) for key, value in values.items()} if isinstance(values, dict) else {}
    return metadata, text[match.end() :]


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


def _dublin_core(package: Any, key: str) -> str:
    """A field of an EPUB's metadata; its name has a colon, which selectors must escape."""
    node = package.query_selector(rf"dc\:{key}")
    return "" if node is None else _one_line(node.text)


def _one_line(text: str) -> str:
    return " ".join(text.split())
