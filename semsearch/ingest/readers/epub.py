"""Reads the text of an EPUB book: its chapters in reading order. Does not depend on files.

A chapter that cannot be read is a loss, and the others are read.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from resiliparse.parse.html import HTMLTree

from semsearch.ingest.readers.content import Content, Package, RefusedError
from semsearch.ingest.readers.decoding import NotTextError, refuse_binary
from semsearch.ingest.readers.files import MAX_RECORD_BYTES
from semsearch.ingest.readers.html import Page, close_elements, decode_html, parse_html
from semsearch.ingest.readers.office import part_name

CONTAINER = "META-INF/container.xml"
ENCRYPTION = "META-INF/encryption.xml"
_FIELDS = ("title", "creator", "date", "language")
_NOT_TEXT = ("image/", "audio/", "video/", "font/", "text/css", "text/javascript", "application/javascript")
"""Media types of items that are not chapters of a book."""


def parse_epub(raw: bytes) -> Content:
    """Parse a book. Raises RefusedError, zipfile.BadZipFile."""
    book = Package(raw)
    losses: list[str] = []
    path = next((node.getattr("full-path") for name, node in _elements(book, CONTAINER) if name == "rootfile"), None)
    if not path:
        raise RefusedError(f"its {CONTAINER} is missing, or names no list of chapters")
    elements = _elements(book, part_name("", path), losses)
    chapters = list(_chapters(book, elements, posixpath.dirname(path), losses))
    if not chapters:
        raise RefusedError("; ".join(["none of its chapters can be read", *losses])[:500])
    fields = {name: " ".join(node.text.split()) for name, node in reversed(elements) if name in _FIELDS}
    return Content(
        fields.get("title", ""),
        "\n\n".join(chapter.text for chapter in chapters),
        [heading for chapter in chapters for heading in chapter.headings],
        {
            "author": fields.get("creator", ""),
            "date": fields.get("date", ""),
            "lang": fields.get("language", ""),
        },
        losses,
    )


def _chapters(book: Package, elements: list[tuple[str, Any]], folder: str, losses: list[str]) -> Iterator[Page]:
    """The chapters of a book in reading order, each once, however often it is named. folder: that of the list."""
    items = {node.getattr("id"): node for name, node in elements if name == "item"}
    encrypted = {
        part_name("", unquote(node.getattr("uri") or ""))
        for name, node in (_elements(book, ENCRYPTION) if ENCRYPTION in book else ())
        if name == "cipherreference"
    }
    seen: set[str] = set()
    characters = 0
    for identifier in dict.fromkeys(node.getattr("idref") for name, node in elements if name == "itemref"):
        item = items.get(identifier)
        href = (item.getattr("href") or "").partition("#")[0] if item is not None else ""
        if item is None or not href:
            losses.append(f"its chapter {identifier!r} has no file")
            continue
        path = part_name(folder, unquote(href))
        if path not in book and part_name(folder, href) in book:
            path = part_name(folder, href)
        if path.lower() in seen or (item.getattr("media-type") or "").lower().startswith(_NOT_TEXT):
            continue
        seen.add(path.lower())
        raw, reason = (b"", "it is encrypted") if path in encrypted else book.read(path)
        if len(raw) > MAX_RECORD_BYTES:
            raw, reason = b"", f"it is longer than {MAX_RECORD_BYTES} bytes"
        try:
            refuse_binary(raw)
        except NotTextError as error:
            raw, reason = b"", str(error)
        if reason:
            how = "is damaged, and not read to its end" if raw else "cannot be read"
            losses.append(f"its chapter {path!r} {how} ({reason})")
            if not raw:
                continue
        chapter = parse_html(raw)
        characters += len(chapter.text)
        if characters > MAX_RECORD_BYTES:
            raise RefusedError(f"its text is longer than {MAX_RECORD_BYTES} characters: split it")
        yield chapter


def _elements(book: Package, path: str, losses: list[str] | None = None) -> list[tuple[str, Any]]:
    """The elements of a part in XML, by name without prefix; it is parsed leniently, as a page is."""
    raw, reason = book.read(path)
    if reason and losses is not None:
        losses.append(f"its {path}, the list of its chapters, is damaged, and not read to its end ({reason})")
    document = HTMLTree.parse(close_elements(decode_html(raw), is_xml=True)).document
    # a slice: iterating over a list of nodes takes quadratic time
    nodes = document.query_selector_all("*")[:] if document is not None else ()
    return [((node.tag or "").rpartition(":")[2], node) for node in nodes]
