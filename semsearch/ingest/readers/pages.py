"""Files that are one document each: text, Markdown, HTML, PDF, Word, EPUB.

Of a page only what it is about is read: navigation, banners and footers are left out. Headings and dates that a file
tells of itself go into its metadata.
"""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import yaml
from markdown_it import MarkdownIt
from pydantic import JsonValue
from resiliparse.extract.html2text import extract_plain_text
from selectolax.lexbor import LexborHTMLParser

from semsearch.errors import first_line
from semsearch.ingest.readers.files import (
    LONGEST_RECORD,
    BadRecord,
    Reading,
    as_json,
    checked,
    clean,
    missing,
    stem,
    whole_bytes,
    whole_text,
)
from semsearch.ingest.recipe import Source
from semsearch.types import Document

MOST_HEADINGS = 30
"""Headings that are kept as metadata."""
WITH_PICTURES = 8
"""Times as long as a text that a file with pictures and fonts in it may be."""
_DATES = (
    'meta[property="article:published_time"]',
    'meta[property="og:published_time"]',
    'meta[name="date"]',
    'meta[name="dcterms.created"]',
    'meta[itemprop="datePublished"]',
    "time[datetime]",
)
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?\n)(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)


def read_text(path: Path, name: str, source: Source) -> Reading:
    """Plain text."""
    text = whole_text(path, source.encoding)
    yield text if isinstance(text, BadRecord) else _document(path, name, text=text)


def read_markdown(path: Path, name: str, source: Source) -> Reading:
    """CommonMark with tables; the fields of YAML front matter become metadata."""
    text = whole_text(path, source.encoding)
    if isinstance(text, BadRecord):
        yield text
        return
    text = text.replace("\r\n", "\n")
    metadata, text = _front_matter(text)
    blocks, headings = [], []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "inline":
            block = "".join(child.content or "\n" * (child.type == "softbreak") for child in token.children or [])
            if before is not None and before.type == "heading_open":
                headings.append(block)
            blocks.append(block)
        elif token.type in {"fence", "code_block"}:
            blocks.append(token.content)
    title = str(metadata.pop("title", "")) or next(iter(headings), "")
    yield _document(path, name, title=title, text="\n\n".join(blocks), headings=headings, metadata=metadata)


def read_html(path: Path, name: str, source: Source) -> Reading:
    """A web page."""
    text = whole_text(path, source.encoding)
    if isinstance(text, BadRecord):
        yield text
        return
    tree = LexborHTMLParser(text)
    heading = tree.css_first("title") or tree.css_first("h1")
    metadata: dict[str, JsonValue] = {}
    for node in (tree.css_first(selector) for selector in _DATES):
        if node is not None and (told := node.attributes.get("content") or node.attributes.get("datetime")):
            metadata["date"] = told
            break
    if tree.root is not None and (language := tree.root.attributes.get("lang")):
        metadata["lang"] = language
    title = _one_line(heading.text()) if heading else ""
    read = main_text(text)
    # those of what was left out are left out
    there = set(map(_one_line, read.splitlines()))
    headings = [one for node in tree.css("h1, h2, h3") if (one := _one_line(node.text())) in there]
    yield _document(path, name, title=title, text=read, headings=headings, metadata=metadata)


def read_pdf(path: Path, name: str, source: Source) -> Reading:  # noqa: ARG001 (as every reader)
    """The text of a PDF's pages."""
    yield _parsed(path, name, _pdf, "PDF", wants=("pypdf", "pdf"))


def read_docx(path: Path, name: str, source: Source) -> Reading:  # noqa: ARG001 (as every reader)
    """Paragraphs and tables of a Word document, in their order."""
    yield _parsed(path, name, _docx, "a Word document", wants=("python-docx", "docx"))


def read_epub(path: Path, name: str, source: Source) -> Reading:  # noqa: ARG001 (as every reader)
    """The chapters of a book, in the order in which they are read, as one document."""
    yield _parsed(path, name, _epub, "EPUB", wants=None)


@dataclass(frozen=True, slots=True)
class _Content:
    """What a file holds."""

    title: str
    text: str
    headings: list[str]
    metadata: dict[str, JsonValue]


class _RefusedError(Exception):
    """A file that is sound and cannot be read all the same."""


def _parsed(
    path: Path, name: str, parse: Callable[[bytes], _Content], what: str, *, wants: tuple[str, str] | None
) -> Document | BadRecord:
    """A file of a packed format as a document; wants: the library that reads it, and the extra that installs that."""
    raw = whole_bytes(path, times=WITH_PICTURES)
    if isinstance(raw, BadRecord):
        return raw
    try:
        found = parse(raw)
    except ImportError:
        assert wants is not None
        return BadRecord(str(path), missing(*wants), whole_file=True)
    except _RefusedError as error:
        return BadRecord(str(path), str(error), whole_file=True)
    except Exception as error:  # noqa: BLE001 (of a damaged file a parser may complain in any way)
        return BadRecord(str(path), f"cannot be read as {what} ({first_line(error)[:200]})", whole_file=True)
    return _document(path, name, title=found.title, text=found.text, headings=found.headings, metadata=found.metadata)


def _pdf(raw: bytes) -> _Content:
    from pypdf import PdfReader

    # what it complains of is told once, as the reason, where nothing can be read
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    file = PdfReader(BytesIO(raw))
    if file.is_encrypted and not file.decrypt(""):
        raise _RefusedError("a PDF that wants a password: unlock it first")
    pages = [page.extract_text() for page in file.pages]
    if not any(map(str.strip, pages)):
        raise _RefusedError(f"no text in its {len(pages)} pages: if they are pictures, have their text recognised")
    told = file.metadata
    title, author = (told.title or "", told.author or "") if told else ("", "")
    metadata: dict[str, JsonValue] = {"pages": len(pages), "author": str(author)}
    metadata["date"] = _iso(told.creation_date if told else None)
    return _Content(str(title), "\n\n".join(pages), [], metadata)


def _docx(raw: bytes) -> _Content:
    from docx import Document as WordDocument
    from docx.table import Table

    _refuse_bombs(raw)
    file = WordDocument(BytesIO(raw))
    blocks, headings = [], []
    for part in file.iter_inner_content():
        if isinstance(part, Table):
            blocks += ["\t".join(cell.text for cell in row.cells) for row in part.rows]
            continue
        blocks.append(part.text)
        if part.style is not None and (part.style.name or "").startswith(("Heading", "Title")):
            headings.append(part.text)
    told = file.core_properties
    metadata: dict[str, JsonValue] = {"author": told.author or "", "date": _iso(told.created)}
    return _Content(told.title or next(iter(headings), ""), "\n\n".join(blocks), headings, metadata)


def _epub(raw: bytes) -> _Content:
    _refuse_bombs(raw)
    with zipfile.ZipFile(BytesIO(raw)) as book:
        root = LexborHTMLParser(book.read("META-INF/container.xml")).css_first("rootfile")
        place = PurePosixPath((root.attributes.get("full-path") if root else None) or "")
        package = LexborHTMLParser(book.read(str(place)))
        items = {node.attributes.get("id"): node.attributes.get("href") for node in package.css("item")}
        spine = [items.get(node.attributes.get("idref")) for node in package.css("itemref")]
        places = [str(place.parent / unquote(href)) for href in spine if href]
        chapters = [book.read(one).decode("utf-8", "replace") for one in places]
    metadata: dict[str, JsonValue] = {
        "author": _told(package, "creator"),
        "date": _told(package, "date"),
        "lang": _told(package, "language"),
    }
    headings = [_one_line(node.text()) for one in chapters for node in LexborHTMLParser(one).css("h1, h2, h3")]
    return _Content(_told(package, "title"), "\n\n".join(map(main_text, chapters)), headings, metadata)


def main_text(html: str) -> str:
    """What a page is about, without what stands on every page of its site; all of it where nothing is left."""
    found = extract_plain_text(html, main_content=True, list_bullets=False, alt_texts=False)
    found = found if found.strip() else extract_plain_text(html, list_bullets=False, alt_texts=False)
    return re.sub(r"\n{3,}", "\n\n", found.replace("\xa0", " "))


def _front_matter(text: str) -> tuple[dict[str, JsonValue], str]:
    """The fields before a Markdown text, and the text; front matter that is no YAML is left out."""
    found = _FRONT_MATTER.match(text)
    if found is None:
        return {}, text
    try:
        values = yaml.safe_load(found[1])
    except yaml.YAMLError:
        values = None
    metadata = {str(key): as_json(value) for key, value in values.items()} if isinstance(values, dict) else {}
    return metadata, text[found.end() :]


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
        return BadRecord(str(path), "an empty document: it has no text", whole_file=True)
    kept: dict[str, JsonValue] = {key: value for key, value in (metadata or {}).items() if value not in (None, "")}
    if headings and "headings" not in kept:
        kept["headings"] = list[JsonValue](dict.fromkeys(filter(None, map(clean, headings))))[:MOST_HEADINGS]
    return checked(Document(name, clean(title) or stem(path), text, name, kept), str(path))


def _refuse_bombs(raw: bytes) -> None:
    """Raise _RefusedError for a packed file that would unpack to more than one document may have."""
    with zipfile.ZipFile(BytesIO(raw)) as packed:
        if sum(one.file_size for one in packed.infolist()) > WITH_PICTURES * LONGEST_RECORD:
            raise _RefusedError(f"it unpacks to more than {WITH_PICTURES * LONGEST_RECORD} bytes: split it")


def _told(package: LexborHTMLParser, key: str) -> str:
    """What an EPUB's package document says of itself; its names have a colon, which selectors must escape."""
    node = package.css_first(rf"dc\:{key}")
    return _one_line(node.text()) if node else ""


def _iso(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat()


def _one_line(text: str) -> str:
    return " ".join(text.split())
