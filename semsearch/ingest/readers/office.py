"""What the readers of word processor documents have in common: parsing XML, and the whitespace between texts.

Does not depend on files and formats.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from xml.parsers import expat

from semsearch.ingest.readers.content import Content, RefusedError, iso_date
from semsearch.ingest.readers.files import MAX_RECORD_BYTES

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""First bytes of files of Word 97, and of encrypted ones of any later version."""


class XmlHandler:
    """Receives the elements and characters of an XML file in order. Names are `prefix:name`, by `PREFIXES`."""

    PREFIXES: Mapping[str, str] = {}
    """By namespace, the prefix that the handler uses; elements of other namespaces have none."""

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """An element begins; names of attributes are as those of elements."""

    def end(self, name: str) -> None:
        """An element ends."""

    def characters(self, text: str) -> None:
        """Text of the present element, perhaps a part of it."""


def parse_xml(raw: bytes, handler: XmlHandler) -> str:
    """Pass an XML file to a handler; return the reason why it was not read to its end, or an empty text.

    Raises RefusedError for one that declares entities, which may grow without bound; no external file is read.
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    names: dict[str, str] = {}

    def short(name: str) -> str:
        if (known := names.get(name)) is None:
            namespace, _, local = name.rpartition(" ")
            prefix = handler.PREFIXES.get(namespace, "")
            known = names[name] = f"{prefix}:{local}" if prefix else local
        return known

    def refuse(*_: object) -> None:
        raise RefusedError("its XML declares entities, which documents of this format never do: save it again")

    def start(name: str, attributes: dict[str, str]) -> None:
        handler.start(short(name), {short(key): value for key, value in attributes.items()})

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda name: handler.end(short(name))
    parser.CharacterDataHandler = handler.characters
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(raw, True)
    except expat.ExpatError as error:
        return str(error)
    except (LookupError, ValueError) as error:  # an unknown encoding
        return f"its XML cannot be decoded ({error})"
    return ""


def parse_part(part: tuple[bytes, str], handler: XmlHandler) -> str:
    """Pass a part, as `Package.read` returns it, to a handler. Returns why it was not read to its end, or nothing."""
    raw, reason = part
    return parse_xml(raw, handler) or reason if raw else reason


class TextFlow:
    """Joins paragraphs, table cells and rows to one text.

    A paragraph that begins within another one, such as a text box or a footnote, is written after it.
    """

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._characters = 0
        self._separator = ""
        self._tables = 0
        self._cell_has_text = False
        self._open: list[list[str]] = []
        """Texts of the paragraphs that have not ended, outermost first."""
        self._inner: list[list[str]] = []
        """Texts of paragraphs within the outermost one, in order."""

    @property
    def text(self) -> str:
        """What was written."""
        return "".join(self.parts)

    @property
    def in_paragraph(self) -> bool:
        """Whether a paragraph is open."""
        return bool(self._open)

    @property
    def characters(self) -> int:
        """Number of characters added so far."""
        return self._characters

    def start_paragraph(self) -> None:
        """Begin a paragraph."""
        text: list[str] = []
        if self._open:
            self._inner.append(text)
        self._open.append(text)

    def end_paragraph(self) -> str:
        """End the innermost paragraph and return its text."""
        if not self._open:
            return ""
        text = "".join(self._open.pop())
        if not self._open:
            inner, self._inner = self._inner, []
            self._write(text)
            for parts in inner:
                self._write("".join(parts))
        return text

    def add(self, text: str) -> None:
        """Add text to the innermost paragraph; without one, as a paragraph of its own.

        Raises RefusedError if the whole text has become too long.
        """
        self._characters += len(text)
        if self._characters > MAX_RECORD_BYTES:
            raise RefusedError(f"its text is longer than {MAX_RECORD_BYTES} characters: split it")
        if self._open:
            self._open[-1].append(text)
        else:
            self._write(text)

    def add_after(self, text: str) -> None:
        """Add a text after the outermost paragraph."""
        self.start_paragraph()
        self.add(text)
        self.end_paragraph()

    def start_table(self) -> None:
        """Begin a table, perhaps within a cell."""
        self._tables += 1
        self._separate("\n\n" if self._tables == 1 else "\n")

    def end_table(self) -> None:
        """End a table."""
        self._tables = max(0, self._tables - 1)
        self._cell_has_text = True

    def start_row(self) -> None:
        """Begin a row of a table."""
        self._separate("\n")

    def start_cell(self) -> None:
        """Begin a cell of a row."""
        self._separate("\t")
        self._cell_has_text = False

    def _separate(self, separator: str) -> None:
        self._separator = max(separator, self._separator, key=("", "\t", "\n", "\n\n").index)

    def _write(self, text: str) -> None:
        if not text.strip():
            return
        if not self._tables:
            self._separate("\n\n")
        elif self._cell_has_text:
            self._separate("\n")
        self.parts += [self._separator, text] if self.parts else [text]
        self._separator = ""
        self._cell_has_text = True


class PartText(XmlHandler):
    """Collects the text of some elements: of a chart, a diagram, a formula, or a document's properties."""

    def __init__(self, prefixes: Mapping[str, str], elements: Callable[[str], bool]) -> None:
        self.PREFIXES = prefixes
        self.texts: list[tuple[str, str]] = []
        """Name and text of each element."""
        self._elements = elements
        self._open: str | None = None
        self._parts: list[str] = []

    def start(self, name: str, attributes: Mapping[str, str]) -> None:  # noqa: ARG002 - the signature of a handler
        """Begin an element."""
        if self._elements(name):
            self._open, self._parts = name, []

    def end(self, name: str) -> None:
        """End an element."""
        if name == self._open:
            self.texts.append((name, " ".join("".join(self._parts).split())))
            self._open = None

    def characters(self, text: str) -> None:
        """Text of an element."""
        if self._open is not None:
            self._parts.append(text)

    def first(self, *names: str) -> str:
        """The text of the first element of the first of these names that has one."""
        for name in names:
            for element, text in self.texts:
                if element == name and text:
                    return text
        return ""

    @property
    def joined(self) -> str:
        """All texts."""
        return " ".join(text for _, text in self.texts if text)


def part_name(folder: str, target: str) -> str:
    """The name of a part that another one refers to. folder: that of the other part."""
    return posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")


def refuse_ole(raw: bytes) -> None:
    """Raise RefusedError for a file that is not a zip file but one of Word 97, or an encrypted one."""
    if raw.startswith(_OLE):
        if "EncryptedPackage".encode("utf-16-le") in raw:
            raise RefusedError("a document that needs a password: save it without one")
        raise RefusedError("a file of Word 97 (.doc) under another name: save it as .docx or .odt")


def office_content(
    flow: TextFlow, headings: list[str], properties: PartText, names: Mapping[str, tuple[str, ...]], losses: list[str]
) -> Content:
    """The content of a document. names: elements of its title, author and date in its properties."""
    headings = [heading for heading in (" ".join(text.split()) for text in headings) if heading]
    return Content(
        properties.first(*names["title"]) or next(iter(headings), ""),
        flow.text,
        headings,
        {"author": properties.first(*names["author"]), "date": iso_date(properties.first(*names["date"]))},
        losses,
    )
