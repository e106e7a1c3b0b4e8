"""The program that reads a PDF file in a process of its own: `python pdf_process.py MAX_CHARS MAX_PAGES MAX_BYTES`.

The file comes by standard input. The output is lines of JSON: one of the file, then one of each page, then `null`. Does
not depend on the package, so that it starts quickly.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pypdfium2
from pypdfium2 import raw as pdfium

MAX_GROUP_DEPTH = 4
"""Images are looked for in groups nested this deep."""


def main() -> None:
    """Read the file of standard input."""
    max_chars, max_pages, max_bytes = map(int, sys.argv[1:])
    _limit_memory(max_bytes)
    logging.disable(logging.CRITICAL)
    try:
        document = pypdfium2.PdfDocument(sys.stdin.buffer.read())
    except pypdfium2.PdfiumError as error:
        _write({"error": str(error), "needs_password": error.err_code == pdfium.FPDF_ERR_PASSWORD})
        return
    document.init_forms()
    metadata = document.get_metadata_dict()
    is_dynamic = document.get_formtype() == pdfium.FORMTYPE_XFA_FULL
    _write({"pages": len(document), "metadata": metadata, "is_dynamic_form": is_dynamic})
    characters = 0
    for number in range(min(len(document), max_pages)):
        page = _read_page(document, number)
        characters += len(page.get("text", ""))
        if characters > max_chars:
            break
        _write(page)
    _write(None)


def _read_page(document: Any, number: int) -> dict[str, Any]:
    try:
        page = document[number]
        # forms and notes on the page become a part of it; the page must be loaded again to have them
        pdfium.FPDFPage_Flatten(page, pdfium.FLAT_NORMALDISPLAY)
        page.close()
        page = document[number]
        text_page = page.get_textpage()
        text = text_page.get_text_range()
        has_images = not text.strip() and any(
            page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=MAX_GROUP_DEPTH)
        )
        text_page.close()
        page.close()
    except pypdfium2.PdfiumError as error:
        return {"error": str(error)}
    return {"text": text, "has_images": has_images}


def _limit_memory(max_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _write(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
