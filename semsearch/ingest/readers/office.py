"""Reads the text of word processor documents. Does not depend on files."""

from __future__ import annotations

from io import BytesIO

from pydantic import JsonValue

from semsearch.ingest.readers.content import Content, iso, refuse_bombs


def parse_docx(raw: bytes) -> Content:
    """Parse a Word document."""
    from docx import Document as WordDocument
    from docx.table import Table

    refuse_bombs(raw)
    document = WordDocument(BytesIO(raw))
    blocks, headings = [], []
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            blocks += ["\t".join(cell.text for cell in row.cells) for row in block.rows]
            continue
        blocks.append(block.text)
        if block.style is not None and (block.style.name or "").startswith(("Heading", "Title")):
            headings.append(block.text)
    properties = document.core_properties
    metadata: dict[str, JsonValue] = {"author": properties.author or "", "date": iso(properties.created)}
    return Content(properties.title or next(iter(headings), ""), "\n\n".join(blocks), headings, metadata)
