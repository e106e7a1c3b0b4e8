"""Reads the text of a Word document: what its printed pages show, in order. Does not depend on files.

Tracked insertions are read as text, and deletions are left out. A text box or a footnote follows the paragraph that
has it. Headers and footers are read once, at the end. Left out are comments, hidden text, descriptions of images, and
the numbers that Word generates for lists and headings.
"""

from __future__ import annotations

import posixpath
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

_NAMESPACES = {
    "wordprocessingml/main": "w",
    "officeDocument/math": "m",
    "officeDocument/relationships": "r",
    "drawingml/main": "a",
    "drawingml/chart": "c",
    "drawingml/diagram": "dgm",
}
PREFIXES: Mapping[str, str] = {
    "http://schemas.openxmlformats.org/markup-compatibility/2006": "mc",
    "urn:schemas-microsoft-com:vml": "v",
    # of transitional documents, and of strict ones
    **{f"http://schemas.openxmlformats.org/{name.replace('/', '/2006/')}": to for name, to in _NAMESPACES.items()},
    **{f"http://purl.oclc.org/ooxml/{name}": prefix for name, prefix in _NAMESPACES.items()},
}
PROPERTIES: Mapping[str, str] = {
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://purl.org/dc/terms/": "dcterms",
}
PROPERTY_NAMES = {"title": ("dc:title",), "author": ("dc:creator",), "date": ("dcterms:created",)}
TEXTS = frozenset(("w:t", "m:t", "a:t"))
SKIPPED = frozenset(
    f"w:{name}"
    for name in (
        *("del", "moveFrom", "sdtPr"),
        *("rPrChange", "pPrChange", "sectPrChange", "tblPrChange", "trPrChange", "tcPrChange", "numberingChange"),
    )
)
"""Elements without text of the printed page: deletions, and former properties."""
WHITESPACE = {"w:tab": "\t", "w:ptab": "\t", "w:br": "\n", "w:cr": "\n", "w:noBreakHyphen": "-"}
TABLES = {"w:tbl": TextFlow.start_table, "w:tr": TextFlow.start_row, "w:tc": TextFlow.start_cell}
NOTES = {"w:footnoteReference": "w:footnote", "w:endnoteReference": "w:endnote"}
EMBEDDED = {"w:altChunk": "another document", "w:subDoc": "a subdocument"}
OFF = ("0", "false", "off")
_SYMBOLS = dict(
    zip(
        (*range(0x41, 0x5B), *range(0x61, 0x7B)),
        "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖαβχδεφγηιϕκλμνοπθρστυϖωξψζ",
        strict=True,
    )
) | {0xA3: "≤", 0xA5: "∞", 0xAE: "→", 0xB0: "°", 0xB1: "±", 0xB3: "≥", 0xB4: "×", 0xB9: "≠", 0xBB: "≈", 0xD6: "√"}
"""By character code, the characters of the font Symbol, of which the commonest are here."""


def parse_docx(raw: bytes) -> Content:
    """Parse a Word document. Raises RefusedError, zipfile.BadZipFile."""
    refuse_ole(raw)
    document = _Document(Package(raw))
    body = _Body(document)
    document.parse(document.main, body)
    if body.root != "w:document":
        found = f"begins with <{body.root}>" if body.root else "cannot be read"
        reasons = [f"not a Word document: its main part {document.main} {found}", *document.losses]
        raise RefusedError("; ".join(reasons)[:500])
    seen: set[str] = set()
    for kind in ("header", "footer"):
        for part in document.parts(kind):
            furniture = _Body(document)
            document.parse(part, furniture)
            if furniture.flow.text not in seen:
                seen.add(furniture.flow.text)
                body.flow.add_after(furniture.flow.text)
    properties = PartText(PROPERTIES, lambda name: name.startswith("dc"))
    if document.properties:
        parse_xml(document.package.read(document.properties)[0], properties)
    return office_content(body.flow, body.headings, properties, PROPERTY_NAMES, document.losses)


class _Relationships(XmlHandler):
    """The parts that a part refers to."""

    def __init__(self) -> None:
        self.targets: dict[str, tuple[str, str]] = {}
        """By id, the kind and the target."""

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "Relationship" and attributes.get("TargetMode", "") != "External":
            kind = attributes.get("Type", "").rpartition("/")[2]
            self.targets[attributes.get("Id", "")] = kind, attributes.get("Target", "")


class _Styles(XmlHandler):
    """Which paragraph styles are those of headings: their names in the file depend on Word's language."""

    PREFIXES = PREFIXES

    def __init__(self) -> None:
        self._is_heading: dict[str, bool] = {}
        self._based_on: dict[str, str] = {}
        self._style = ""

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        value = attributes.get("w:val", "")
        if name == "w:style":
            self._style = attributes.get("w:styleId", "")
        elif name == "w:basedOn":
            self._based_on[self._style] = value
        elif name == "w:name" and (value.lower() == "title" or value.lower().startswith("heading")):
            self._is_heading[self._style] = True
        elif name == "w:outlineLvl":
            self._is_heading[self._style] = value != "9"

    def is_heading(self, style: str) -> bool:
        """Whether a style, or one that it is based on, is that of a heading."""
        seen: set[str] = set()
        while style not in seen:
            if style in self._is_heading:
                return self._is_heading[style]
            seen.add(style)
            style = self._based_on.get(style, "")
        return False


class _Document:
    """The parts of a document."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self.losses: list[str] = []
        targets = self._relationships("").values()
        named = {kind: part_name("", target) for kind, target in targets}
        self.main = named.get("officeDocument", "word/document.xml")
        self.properties = named.get("core-properties", "")
        self._folder = posixpath.dirname(self.main)
        self._targets = self._relationships(self.main)
        self._drawings: set[str] = set()
        """Parts of charts and diagrams that were read."""
        self.styles = _Styles()
        for part in self.parts("styles"):
            parse_xml(package.read(part)[0], self.styles)
        self.notes: dict[tuple[str, str], str] = {}
        """Texts of footnotes and endnotes, by element and id."""
        for part in (*self.parts("footnotes"), *self.parts("endnotes")):
            notes = _Notes(self)
            self.parse(part, notes)
            self.notes |= notes.texts

    def parts(self, kind: str) -> list[str]:
        """The names of the parts of a kind."""
        return list(
            dict.fromkeys(
                part_name(self._folder, target) for target_kind, target in self._targets.values() if target_kind == kind
            )
        )

    def parse(self, part: str, handler: XmlHandler) -> None:
        """Pass a part to a handler; what cannot be read of it is a loss."""
        if reason := parse_part(self.package.read(part), handler):
            self.losses.append(f"its part {part} is damaged, and not read to its end ({reason})")

    def drawing(self, identifier: str) -> str:
        """The texts of a chart or a diagram, once, however often it is referred to."""
        texts = PartText(PREFIXES, lambda name: name in {"a:t", "c:v"})
        kind, target = self._targets.get(identifier, ("", ""))
        part = part_name(self._folder, target)
        if kind and part not in self._drawings:
            self._drawings.add(part)
            self.parse(part, texts)
        return " ".join(dict.fromkeys(text for name, text in texts.texts if name == "a:t" or not _is_number(text)))

    def _relationships(self, part: str) -> dict[str, tuple[str, str]]:
        folder, name = posixpath.split(part)
        handler = _Relationships()
        relationships = part_name(folder, f"_rels/{name}.rels")
        if relationships in self.package:
            self.parse(relationships, handler)
        return handler.targets


class _Body(XmlHandler):
    """The text of the main part, of a header or of a footer."""

    PREFIXES = PREFIXES

    def __init__(self, document: _Document) -> None:
        self.flow = TextFlow()
        self.headings: list[str] = []
        self.root = ""
        self._document = document
        self._skipped = 0
        """Depth within an element that is skipped."""
        self._properties = 0
        """Depth within a paragraph's properties."""
        self._is_text = False
        self._is_heading: list[bool] = []
        """Of each open paragraph."""
        self._hidden: list[bool] = []
        """Of each open run."""
        self._fields: list[bool] = []
        """Of each open field: whether this is its code, not its result."""
        self._alternatives: list[int] = []
        """Characters that were read before each open choice between alternatives."""
        self._choices: list[str] = []
        """Entries of a drop-down field."""
        self._choice = 0

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self.root = self.root or name
        if self._skipped or name in SKIPPED:
            self._skipped += 1
        elif self._properties or name == "w:pPr":
            self._properties += 1
            self._start_property(name, attributes)
        elif name in TEXTS:
            self._is_text = True
        elif name == "w:p":
            self._is_heading.append(False)
            self._fields = [code for code in self._fields if not code] if not self.flow.in_paragraph else self._fields
            self.flow.start_paragraph()
        elif name == "w:rt":
            self.flow.start_paragraph()
        elif name == "w:r":
            self._hidden.append(False)
        elif name == "w:vanish" and self._hidden and attributes.get("w:val") not in OFF:
            self._hidden[-1] = True
        elif name in WHITESPACE:
            self._add(WHITESPACE[name])
        elif name == "mc:AlternateContent":
            self._alternatives.append(self.flow.characters)
        elif name == "mc:Fallback" and self._alternatives and self.flow.characters > self._alternatives[-1]:
            self._skipped = 1
        else:
            self._start_other(name, attributes)

    def end(self, name: str) -> None:
        if self._skipped:
            self._skipped -= 1
        elif self._properties:
            self._properties -= 1
        elif name in TEXTS:
            self._is_text = False
        elif name == "w:p":
            text = self.flow.end_paragraph()
            if self._is_heading.pop():
                self.headings.append(text)
        else:
            self._end_other(name)

    def characters(self, text: str) -> None:
        if self._is_text and not self._skipped:
            self._add(text)

    def _start_property(self, name: str, attributes: Mapping[str, str]) -> None:
        if not self._is_heading:
            return
        if name == "w:pStyle":
            self._is_heading[-1] = self._document.styles.is_heading(attributes.get("w:val", ""))
        elif name == "w:outlineLvl":
            self._is_heading[-1] = attributes.get("w:val") != "9"

    def _start_other(self, name: str, attributes: Mapping[str, str]) -> None:
        if name in TABLES:
            TABLES[name](self.flow)
        elif name == "w:fldChar":
            self._change_field(attributes.get("w:fldCharType", ""))
        elif name == "w:sym":
            self._add(_symbol(attributes))
        elif name in NOTES:
            # once, however often it is referred to
            self.flow.add_after(self._document.notes.pop((NOTES[name], attributes.get("w:id", "")), ""))
        elif name == "c:chart" and "r:id" in attributes:
            self.flow.add_after(self._document.drawing(attributes["r:id"]))
        elif name == "dgm:relIds":
            self.flow.add_after(self._document.drawing(attributes.get("r:dm", "")))
        elif name == "v:textpath":
            self.flow.add_after(attributes.get("string", ""))
        elif name == "w:ddList":
            self._choices, self._choice = [], 0
        elif name == "w:listEntry":
            self._choices.append(attributes.get("w:val", ""))
        elif name == "w:result" and attributes.get("w:val", "").isdecimal():
            self._choice = int(attributes["w:val"][:9])
        elif name in EMBEDDED:
            self._document.losses.append(f"{EMBEDDED[name]} is embedded in it, which is not read: index that one too")

    def _end_other(self, name: str) -> None:
        if name == "w:rt":
            self.flow.end_paragraph()
        elif name == "w:r":
            self._hidden.pop()
        elif name == "w:tbl":
            self.flow.end_table()
        elif name == "mc:AlternateContent":
            self._alternatives.pop()
        elif name == "w:ddList" and self._choice < len(self._choices):
            self.flow.add(self._choices[self._choice])

    def _change_field(self, change: str) -> None:
        if change == "begin":
            self._fields.append(True)
        elif self._fields and change == "separate":
            self._fields[-1] = False
        elif self._fields:
            self._fields.pop()

    def _add(self, text: str) -> None:
        if not any(self._fields) and not (self._hidden and self._hidden[-1]):
            self.flow.add(text)


class _Notes(_Body):
    """The texts of footnotes or endnotes."""

    def __init__(self, document: _Document) -> None:
        super().__init__(document)
        self.texts: dict[tuple[str, str], str] = {}
        self._id = ""

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name in NOTES.values():
            self._id, self.flow = attributes.get("w:id", ""), TextFlow()
        super().start(name, attributes)

    def end(self, name: str) -> None:
        super().end(name)
        if name in NOTES.values():
            self.texts[name, self._id] = self.flow.text


def _symbol(attributes: Mapping[str, str]) -> str:
    try:
        code = int(attributes.get("w:char", ""), 16)
    except ValueError:
        return ""
    if 0xF000 <= code <= 0xF0FF:  # the private use area, in which fonts of symbols are
        return _SYMBOLS.get(code - 0xF000, "") if attributes.get("w:font") == "Symbol" else ""
    return chr(code) if code < 0xD800 else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
