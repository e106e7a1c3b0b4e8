"""Reads the text of an HTML or XHTML page. Does not depend on files.

All visible text is kept, except what the page itself marks as navigation: a heuristic for the main content loses lists,
asides and whole sections of real pages.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import detect_encoding
from resiliparse.parse.html import HTMLTree

NAVIGATION = "nav, [role=navigation], [role=search]"
"""Elements that a page marks as navigation."""
BANNERS = "body > header, body > footer, [role=banner], [role=contentinfo]"
"""Elements that every page of a site has; they are left out only if the page marks its main content."""
MAIN = "main, article, [role=main]"
INVISIBLE = (
    '[hidden], [style*="display:none" i], [style*="display: none" i], dialog:not([open]),'
    " noscript, img, input, button, select, textarea, rp"
)
"""Elements without text to read."""
BLOCKS_IN_LINE = "summary, legend, option"
"""Elements that end a line, although the extraction joins them with the text that follows."""
DATES = (
    'meta[property="article:published_time"]',
    'meta[property="og:published_time"]',
    'meta[name="date"]',
    'meta[name="dcterms.created"]',
    'meta[itemprop="datePublished"]',
    "time[datetime]",
)
VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr")
)
"""Elements that have no end tag."""
RAW_TEXT = ("title", "textarea", "script", "style", "xmp", "iframe", "noembed", "noframes")
"""Elements whose text a parser reads up to their end tag, whatever it contains."""

_SELF_CLOSED = re.compile(r"<([a-zA-Z][\w:.-]*)((?:\s[^<>]*)?)/>")
_DECLARED_CHARSET = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_BLOCK_TAG = re.compile(
    r"</?(?:head|body|div|p|h[1-6]|table|ul|ol|dl|pre|section|article|main|blockquote)\b", re.IGNORECASE
)
_DECLARATION_BYTES = 4_096
"""A page's encoding is declared in this many first bytes."""


@dataclass(frozen=True, slots=True)
class Page:
    """The content of a page."""

    title: str
    text: str
    headings: list[str]
    """Texts of h1 to h3, without those of navigation."""
    language: str
    """The root element's `lang`; empty if it has none."""
    date: str
    """Date of publication as the page has it; empty if it has none."""


def parse_html(raw: bytes, encoding: str = "utf-8") -> Page:
    """Parse a page. encoding: used if the page declares none and is not UTF-8. Never raises for damaged pages."""
    tree = HTMLTree.parse(_close_elements(decode_html(raw, encoding)))
    title = _one_line(tree.title or "") or next(_texts(tree, "h1"), "")
    root = next(_select(tree, "html"), None)
    language = (root.getattr("lang") or root.getattr("xml:lang") or "") if root is not None else ""
    dates = (node.getattr("content") or node.getattr("datetime") for date in DATES for node in _select(tree, date))
    date = next(filter(None, dates), "")
    # the invisible elements are removed first, so that a page of nothing but navigation is read without them
    text = _visible_text(tree) or extract_plain_text(tree, list_bullets=False, alt_texts=False)
    _remove(tree, NAVIGATION)
    headings = [heading for heading in _texts(tree, "h1, h2, h3") if heading]
    return Page(title, re.sub(r"\n{3,}", "\n\n", text.replace("\xa0", " ")), headings, language, date)


def decode_html(raw: bytes, encoding: str = "utf-8") -> str:
    """Decode a page by its byte order mark, as UTF-8 if it is valid, by its declaration, or by `encoding`.

    A page that none of these decodes is decoded by the encoding that its bytes suggest; bytes that cannot be decoded
    are replaced.
    """
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if raw.startswith(mark):
            return raw[len(mark) :].decode(name, "replace")
    declared = _DECLARED_CHARSET.search(raw[:_DECLARATION_BYTES])
    candidates = [declared[1].decode("ascii", "replace")] if declared else []
    # escape sequences of 7-bit encodings are valid UTF-8; other bytes above 127 are hardly ever valid by accident
    candidates = ["utf-8", *candidates] if any(byte > 127 for byte in raw) else [*candidates, "utf-8"]
    for name in (*candidates, encoding):
        try:
            return raw.decode("cp1252" if _is_latin1(name) else name)
        except (LookupError, ValueError):
            continue
    return raw.decode(detect_encoding(raw) or "utf-8", "replace")


def _is_latin1(name: str) -> bool:
    # as browsers do: pages that declare Latin-1 or ASCII are written in its superset Windows-1252
    try:
        return codecs.lookup(name).name in {"iso8859-1", "ascii"}
    except LookupError:
        return False


def _close_elements(html: str) -> str:
    """Close elements that would swallow the text that follows: self-closed ones, and those without an end tag."""
    is_xhtml = html.lstrip()[:5] == "<?xml" or "http://www.w3.org/1999/xhtml" in html[:2_000]

    def close(match: re.Match[str]) -> str:
        tag = match[1].lower()
        if tag in VOID or not (is_xhtml or tag in RAW_TEXT):
            return match[0]
        return f"<{match[1]}{match[2]}></{match[1]}>"

    html = _SELF_CLOSED.sub(close, html)
    lower = html.lower()
    for tag in RAW_TEXT:
        opened = lower.rfind(f"<{tag}")
        if opened < 0 or lower[opened + len(tag) + 1 : opened + len(tag) + 2] not in {">", " ", "\n", "\t", "/"}:
            continue
        if f"</{tag}" not in lower[opened:]:
            block = _BLOCK_TAG.search(html, opened)
            end = block.start() if block else len(html)
            html = f"{html[:end]}</{tag}>{html[end:]}"
            lower = html.lower()
    comment = html.rfind("<!--")
    if comment >= 0 and "-->" not in html[comment:]:
        html = html[:comment] + html[comment + 4 :]
    return html


def _visible_text(tree: HTMLTree) -> str:
    """The text without navigation; also removes invisible elements from the tree."""
    skipped = [NAVIGATION, BANNERS] if any(True for _ in _select(tree, MAIN)) else [NAVIGATION]
    _remove(tree, INVISIBLE)
    for node in _select(tree, BLOCKS_IN_LINE):
        node.append_child(tree.create_element("br"))
    text = extract_plain_text(tree, list_bullets=False, alt_texts=True, form_fields=True, skip_elements=skipped)
    return text if text.strip() else ""


def _remove(tree: HTMLTree, selector: str) -> None:
    for node in _select(tree, selector):
        node.decompose()


def _texts(tree: HTMLTree, selector: str) -> Iterator[str]:
    return (_one_line(node.text) for node in _select(tree, selector))


def _select(tree: HTMLTree, selector: str) -> Iterator[Any]:
    # the tree of an empty page has no document
    return iter(tree.document.query_selector_all(selector) if tree.document is not None else ())


def _one_line(text: str) -> str:
    return " ".join(text.split())
