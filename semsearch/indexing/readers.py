"""Files to documents, one at a time; knows nothing of cutting, encoding or storing.

A reader yields documents and, in their place, what is wrong with the ones that it cannot read: the caller decides
whether that ends the build.
"""

from __future__ import annotations

import csv
import fnmatch
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import IO, Any, NoReturn, TypeAlias

from markdown_it import MarkdownIt
from pydantic import JsonValue
from selectolax.lexbor import LexborHTMLParser

from semsearch.indexing import python_docs
from semsearch.indexing.recipe import FieldNames, Source
from semsearch.records import Document, InputError, is_unicode

LONGEST_RECORD = 32 * 2**20
"""Bytes of one file, line or row that is one document; more is taken for a mistake, not read into memory."""


@dataclass(frozen=True, slots=True)
class BadRecord:
    """Something in the input that is no document."""

    place: str
    """`file` or `file:line`."""
    reason: str
    """What is wrong and what to do about it."""

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


Reading: TypeAlias = Iterator[Document | BadRecord]
Reader: TypeAlias = Callable[[Path, str, Source], Reading]
"""Takes a file, its name relative to the source, and the source."""


def read(source: Source, root: Path | None = None) -> Reading:
    """The documents of one source, in an order that does not change.

    root: a folder above it from whose name on its files are named, as if all of it were read; by default its own.

    Raises InputError at once for a path that does not exist or whose kind is unknown, and while reading for a folder
    in which there is nothing to index.
    """
    if source.path is None:
        return _read_python()
    if source.path.is_dir():
        return _read_folder(source.path, source, (root or source.path).parent)
    if not source.path.is_file():
        raise InputError(f"{source.path}: no such file or folder")
    reader = READERS.get(source.path.suffix.lower())
    if reader is None:
        raise InputError(f"{source.path}: files ending in {source.path.suffix!r} cannot be read; {_known()}")
    return reader(source.path, _name(source.path, (root or source.path).parent), source)


def _read_python() -> Reading:
    for record in python_docs.records():
        kind = {"module": record["module"], "kind": record["kind"]}
        yield Document(record["id"], record["title"], record["text"], record["source"], kind)


def _read_folder(path: Path, source: Source, above: Path) -> Reading:
    closed: list[OSError] = []
    found = False
    for file in _files(path, source, closed):
        found = True
        yield from READERS[file.suffix.lower()](file, _name(file, above), source)
    for error in closed:
        yield _unreadable(Path(error.filename), error)
    if not found and not closed:
        raise InputError(f"{path}: no file to index in this folder; {_known()}")


def _name(file: Path, above: Path) -> str:
    return file.relative_to(above).as_posix()


def _files(folder: Path, source: Source, closed: list[OSError]) -> Iterator[Path]:
    """Files of a known kind under a folder, by name, hidden ones and links to folders left out.

    Folders that may not be read are added to `closed`.
    """
    for parent, folders, names in os.walk(folder, onerror=closed.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            wanted = not source.include or any(fnmatch.fnmatch(name, pattern) for pattern in source.include)
            unwanted = any(fnmatch.fnmatch(name, pattern) for pattern in source.exclude)
            path = Path(parent, name)
            if wanted and not unwanted and not name.startswith(".") and path.suffix.lower() in READERS:
                yield path


def _read_jsonl(path: Path, name: str, source: Source) -> Reading:
    for number, line in _lines(path, source.encoding):
        place = f"{path}:{number}"
        if isinstance(line, BadRecord):
            yield line
        elif line.strip():
            try:
                values = json.loads(line, parse_constant=_refuse_constant)
            except ValueError as error:
                yield BadRecord(place, f"not JSON ({error}): each line must hold one object")
                continue
            if isinstance(values, dict):
                yield _document(values, source.fields, place=place, default_id=f"{name}:{number}")
            else:
                yield BadRecord(place, f"a JSON {type(values).__name__}, not an object with a text")


def _read_csv(path: Path, name: str, source: Source) -> Reading:
    csv.field_size_limit(LONGEST_RECORD)
    try:
        file = _opened(path, source.encoding)
    except OSError as error:
        yield _unreadable(path, error)
        return
    with file:
        rows = csv.reader(file, csv.excel_tab if path.suffix.lower() == ".tsv" else csv.excel, strict=True)
        header: list[str] | None = None
        while True:
            place = f"{path}:{rows.line_num + 1}"
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadRecord(place, f"not a row of comma- or tab-separated values ({error})")
                continue
            except UnicodeError:
                yield BadRecord(place, _wrong_encoding(source.encoding))
                return
            if not row:
                continue
            if not all(map(is_unicode, row)):
                yield BadRecord(place, _wrong_encoding(source.encoding))
            elif header is None:
                header = [column.strip() for column in row]
                if not set(header) & {*source.fields.text, *source.fields.title}:
                    wanted = ", ".join((*source.fields.text, *source.fields.title))
                    yield BadRecord(
                        place,
                        f"no column for the text: the first row names {', '.join(header)[:200]}; name one of them"
                        f" {wanted}, or say in the recipe which one it is (sources.fields.text)",
                    )
                    return
            elif len(row) != len(header):
                yield BadRecord(place, f"{len(row)} fields in a table of {len(header)} columns")
            else:
                values = dict(zip(header, row, strict=True))
                yield _document(values, source.fields, place=place, default_id=f"{name}:{rows.line_num}")


def _read_markdown(path: Path, name: str, source: Source) -> Reading:
    text = _whole(path, source.encoding)
    if isinstance(text, BadRecord):
        yield text
        return
    # front matter is for the site's generator, not for its readers
    text = re.sub(r"\A---\n.*?\n(---|\.\.\.)\n", "", text.replace("\r\n", "\n"), flags=re.DOTALL)
    blocks, title = [], ""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "inline":
            block = "".join(child.content or "\n" * (child.type == "softbreak") for child in token.children or [])
            if before is not None and before.type == "heading_open" and not title:
                title = block
            blocks.append(block)
        elif token.type in {"fence", "code_block"}:
            blocks.append(token.content)
    yield _file_document(path, name, title=title, text="\n\n".join(blocks))


def _read_html(path: Path, name: str, source: Source) -> Reading:
    text = _whole(path, source.encoding)
    if isinstance(text, BadRecord):
        yield text
        return
    tree = LexborHTMLParser(text)
    heading = tree.css_first("title") or tree.css_first("h1")
    title = " ".join(heading.text().split()) if heading else ""
    tree.strip_tags(["head", "script", "style", "noscript", "template", "svg", "nav"])
    body = tree.body
    parts: list[str] = []
    for node in body.traverse(include_text=True) if body else ():
        if node.tag == "-text":
            parts.append(
                re.sub(r"\s+", " ", node.text_content or "") if not _inside_pre(node) else node.text_content or ""
            )
        elif node.tag in BLOCKS:
            parts.append("\n\n")
        elif node.tag in {"br", "tr", "td", "th"}:
            parts.append("\n")
    text = re.sub(r" *\n *", "\n", "".join(parts))
    yield _file_document(path, name, title=title, text=re.sub(r"\n{3,}", "\n\n", text))


def _read_text(path: Path, name: str, source: Source) -> Reading:
    text = _whole(path, source.encoding)
    yield text if isinstance(text, BadRecord) else _file_document(path, name, title="", text=text)


READERS: Mapping[str, Reader] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".md": _read_markdown,
    ".markdown": _read_markdown,
    ".html": _read_html,
    ".htm": _read_html,
    ".txt": _read_text,
    ".text": _read_text,
    ".rst": _read_text,
}
"""How files are read, by the end of their names."""

BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "li",
        "main",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "ul",
    ]
)
"""HTML elements that begin a paragraph of their own."""


def _known() -> str:
    return f"known are {', '.join(READERS)}"


def _lines(path: Path, encoding: str) -> Iterator[tuple[int, str | BadRecord]]:
    """Numbered lines; of one that is too long only its beginning is ever in memory."""
    number = 0
    try:
        with _opened(path, encoding) as file:
            while line := file.readline(LONGEST_RECORD):
                number += 1
                place = f"{path}:{number}"
                if len(line) == LONGEST_RECORD and not line.endswith("\n"):
                    while (rest := file.readline(LONGEST_RECORD)) and not rest.endswith("\n"):
                        pass
                    yield number, BadRecord(place, f"longer than {LONGEST_RECORD} characters: split it")
                else:
                    yield number, line if is_unicode(line) else BadRecord(place, _wrong_encoding(encoding))
    except UnicodeError:
        yield number + 1, BadRecord(f"{path}:{number + 1}", _wrong_encoding(encoding))
    except OSError as error:
        yield 0, _unreadable(path, error)


def _opened(path: Path, encoding: str) -> IO[str]:
    """The file as text; bytes that are no text become lone surrogates, to be found row by row."""
    name = "utf-8-sig" if encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else encoding
    return path.open(encoding=name, errors="surrogateescape", newline="")


def _whole(path: Path, encoding: str) -> str | BadRecord:
    try:
        with path.open("rb") as file:
            raw = file.read(LONGEST_RECORD + 1)
    except OSError as error:
        return _unreadable(path, error)
    if len(raw) > LONGEST_RECORD:
        return BadRecord(str(path), f"longer than {LONGEST_RECORD} bytes, too much for one document: split it")
    try:
        return TextIOWrapper(BytesIO(raw), encoding=encoding).read().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return BadRecord(f"{path}:{line}", _wrong_encoding(encoding))


def _document(
    values: Mapping[str, JsonValue], fields: FieldNames, *, place: str, default_id: str
) -> Document | BadRecord:
    """A record as a document: the fields that mean something taken out, the rest its metadata."""
    rest = dict(values)
    parts: dict[str, str] = {}
    for meaning, names in (("id", fields.id), ("title", fields.title), ("text", fields.text)):
        present = [name for name in names if rest.get(name) not in (None, "")]
        taken = present if meaning == "text" and fields.join_text else present[:1]
        for name in taken:
            if not isinstance(rest[name], str | int | float):
                return BadRecord(place, f"its field {name!r} is no text: the {meaning} must be text or a number")
        parts[meaning] = _clean("\n\n".join(str(rest.pop(name)) for name in taken))
    if not parts["title"] and not parts["text"]:
        looked_for = ", ".join((*fields.text, *fields.title))
        return BadRecord(place, f"an empty document: none of its fields {looked_for} holds any text")
    return _checked(
        Document(
            id=parts["id"] or default_id,
            title=parts["title"],
            text=parts["text"],
            source=default_id,
            metadata={key: value for key, value in rest.items() if value not in (None, "")},
        ),
        place,
    )


def _file_document(path: Path, name: str, *, title: str, text: str) -> Document | BadRecord:
    text = _clean(text)
    if not text:
        return BadRecord(str(path), "an empty document: it has no text")
    return _checked(Document(name, _clean(title) or path.stem, text, name), str(path))


def _checked(document: Document, place: str) -> Document | BadRecord:
    metadata = json.dumps(dict(document.metadata), ensure_ascii=False)
    if all(map(is_unicode, (document.id, document.title, document.text, metadata))):
        return document
    return BadRecord(place, "holds half of a surrogate pair: write valid Unicode")


def _clean(text: str) -> str:
    """Without the character that ends strings in C, and without space around."""
    return text.replace("\x00", "").strip()


def _wrong_encoding(encoding: str) -> str:
    return (
        f"not {encoding.upper()}: convert it (iconv -f latin1 -t utf-8), or name its encoding"
        ' (in the recipe: encoding = "latin-1")'
    )


def _unreadable(path: Path, error: OSError) -> BadRecord:
    return BadRecord(str(path), f"cannot be read ({error.strerror})")


def _inside_pre(node: Any) -> bool:
    parent = node.parent
    return parent is not None and parent.tag in {"pre", "textarea"}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
