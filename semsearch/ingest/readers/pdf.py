"""Reads the text of a PDF file. Does not depend on files."""

from __future__ import annotations

import logging
from io import BytesIO

from pydantic import JsonValue

from semsearch.ingest.readers.content import Content, RefusedError, iso


def parse_pdf(raw: bytes) -> Content:
    """Parse a PDF file."""
    from pypdf import PdfReader

    # its warnings are not shown: a file that cannot be read is reported once, with the reason
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    reader = PdfReader(BytesIO(raw))
    if reader.is_encrypted and not reader.decrypt(""):
        raise RefusedError("a PDF that needs a password: unlock it first")
    pages = [page.extract_text() for page in reader.pages]
    if not any(map(str.strip, pages)):
        raise RefusedError(f"no text in its {len(pages)} pages: if they are images, run text recognition (OCR) first")
    info = reader.metadata
    title, author = (info.title or "", info.author or "") if info else ("", "")
    metadata: dict[str, JsonValue] = {"pages": len(pages), "author": str(author)}
    metadata["date"] = iso(info.creation_date if info else None)
    return Content(str(title), "\n\n".join(pages), [], metadata)
