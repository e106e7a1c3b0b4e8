"""Reads the text of an OpenDocument text: what its printed pages show, in order. Does not depend on files.

Tracked insertions are read as text, and deletions are left out. A text box or a footnote follows the paragraph that
has it. Headers and footers are read once, at the end. Left out are comments, hidden text, descriptions of images, and
the numbers that are generated for lists and headings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from semsearch.ingest.readers.content import Content, Package, RefusedError
from semsearch.ingest.readers.office import (
    PartText,
    TextFlow,
    XmlHandler,
    office_content,
    parse_part,
    parse_xml,
    part_name,
    refuse_ole,
)

PREFIXES: Mapping[str, str] = {
    **{
        f"urn:oasis:names:tc:opendocument:xmlns:{name}:1.0": name
        for name in ("office", "text", "table", "style", "meta", "manifest")
    },
    "urn:oasis:names:tc:opendocument:xmlns:drawing:1.0": "draw",
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://www.w3.org/1999/xlink": "xlink",
    "http://www.w3.org/1998/Math/MathML": "math",
}
PROPERTY_NAMES = {
    "title": ("dc:title",),
    "author": ("meta:initial-creator", "dc:creator"),
    "date": ("meta:creation-date", "dc:date"),
}
PARAGRAPHS = frozenset(("text:p", "text:h"))
SKIPPED = frozenset(
    (
        *("text:tracked-changes", "office:annotation", "text:note-citation", "text:script", "office:scripts"),
        *("text:hidden-text", "text:hidden-paragraph", "math:annotation", "office:forms", "office:meta"),
        *("title", "desc", "office:binary-data"),
    )
)
"""Elements without text of the printed page: deletions, comments, numbers of notes, descriptions of images."""
TABLES = {
    "table:table": TextFlow.start_table,
    "table:table-row": TextFlow.start_row,
    "table:table-cell": TextFlow.start_cell,
}
FURNITURE = frozenset(f"style:{name}" for name in ("header", "footer")) | {
    f"style:{name}-{page}" for name in ("header", "footer") for page in ("left", "first")
}
MATH = frozenset(f"math:{name}" for name in ("mi", "mn", "mo", "mtext", "ms"))
MAX_SPACES = 100
_SPACE = re.compile(r"[ \t\r\n]+")


def parse_odt(raw: bytes) -> Content:
    """Parse an OpenDocument text: a zip file, or one XML file. Raises RefusedError, zipfile.BadZipFile."""
    refuse_ole(raw)
    losses: list[str] = []
    if raw.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        body, furniture, properties = _Body(None), _Furniture(None), _properties()
        _parse((raw, ""), body, losses)
        for handler in (furniture, properties):
            parse_xml(raw, handler)
    else:
        package = Package(raw)
        if b"encryption-data" in package.read("META-INF/manifest.xml")[0]:
            raise RefusedError("a document that needs a password: save it without one")
        body, furniture, properties = _Body(package), _Furniture(package), _properties()
        _parse(package.read("content.xml"), body, losses)
        for part, handler in (("styles.xml", furniture), ("meta.xml", properties)):
            if part in package:
                _parse(package.read(part), handler, losses)
    if not body.is_text_document:
        raise RefusedError("; ".join(["not an OpenDocument text: it has no <office:text>", *losses])[:500])
    for text in dict.fromkeys(furniture.texts):
        body.flow.add_after(text)
    return office_content(body.flow, body.headings, properties, PROPERTY_NAMES, losses + body.losses)


def _parse(part: tuple[bytes, str], handler: XmlHandler, losses: list[str]) -> None:
    if reason := parse_part(part, handler):
        losses.append(f"it is damaged, and not read to its end ({reason})")


def _properties() -> PartText:
    return PartText(PREFIXES, lambda name: name.startswith(("dc:", "meta:")))


class _Body(XmlHandler):
    """The text of a document's content."""

    PREFIXES = PREFIXES
    _START = "office:body"
    """The element whose text is read."""

    def __init__(self, package: Package | None) -> None:
        self.flow = TextFlow()
        self.headings: list[str] = []
        self.losses: list[str] = []
        self.is_text_document = False
        self._package = package
        self._skipped = 0
        """Depth within an element that is skipped."""
        self._is_body = False
        self._paragraphs: list[bool] = []
        """Of each open paragraph, whether it is a heading."""
        self._objects: set[str] = set()
        """Embedded parts that were read."""
        self._titles = {"Title"}
        """Paragraph styles of titles."""

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if self._skipped or name in SKIPPED or _is_hidden(name, attributes):
            self._skipped += 1
        elif not self._is_body:
            self._is_body = name == self._START
            if name == "style:style" and attributes.get("style:parent-style-name") in self._titles:
                self._titles.add(attributes.get("style:name", ""))
        elif name in PARAGRAPHS:
            self._paragraphs.append(name == "text:h" or attributes.get("text:style-name") in self._titles)
            self.flow.start_paragraph()
        elif name in TABLES:
            TABLES[name](self.flow)
        else:
            self._start_other(name, attributes)

    def _start_other(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "text:s":
            count = attributes.get("text:c", "1")
            self._add(" " * min(int(count[:9]) if count.isdecimal() else 1, MAX_SPACES))
        elif name == "text:tab":
            self._add("\t")
        elif name == "text:line-break":
            self._add("\n")
        elif name == "text:ruby-text":
            self.flow.start_paragraph()
        elif name == "draw:object" and (target := attributes.get("xlink:href")):
            self.flow.add_after(self._embedded(target))
        elif name in MATH:
            self.flow.add(" ")
        elif name == "office:text":
            self.is_text_document = True

    def end(self, name: str) -> None:
        if self._skipped:
            self._skipped -= 1
        elif not self._is_body:
            return
        elif name in PARAGRAPHS:
            text = self.flow.end_paragraph()
            if self._paragraphs.pop():
                self.headings.append(text)
        elif name == "text:ruby-text":
            self.flow.end_paragraph()
        elif name == "table:table":
            self.flow.end_table()
        elif name == self._START:
            self._is_body = False

    def characters(self, text: str) -> None:
        if not self._skipped and self._paragraphs:
            self._add(_SPACE.sub(" ", text))

    def _add(self, text: str) -> None:
        if self._paragraphs:
            self.flow.add(text)

    def _embedded(self, target: str) -> str:
        """The texts of a formula, or of the titles of a chart, once, however often it is referred to."""
        part = part_name("", f"{target}/content.xml")
        if self._package is None or part not in self._package or part in self._objects:
            return ""
        self._objects.add(part)
        texts = PartText(PREFIXES, lambda name: name in MATH or name in PARAGRAPHS)
        _parse(self._package.read(part), texts, self.losses)
        return texts.joined


class _Furniture(_Body):
    """The headers and footers of a document's styles."""

    _START = ""

    def __init__(self, package: Package | None) -> None:
        super().__init__(package)
        self.texts: list[str] = []

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if not self._skipped and not self._is_body and name in FURNITURE:
            self._is_body, self.flow = True, TextFlow()
            return
        super().start(name, attributes)

    def end(self, name: str) -> None:
        if self._is_body and not self._skipped and name in FURNITURE:
            self._is_body = False
            self.texts.append(self.flow.text)
            return
        super().end(name)


def _is_hidden(name: str, attributes: Mapping[str, str]) -> bool:
    return name == "text:section" and attributes.get("text:display") == "none"
