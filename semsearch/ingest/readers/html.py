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
MAIN = "main, [role=main]"
INVISIBLE = (
    '[hidden], [style*="display:none" i], [style*="display: none" i], dialog:not([open]),'
    " noscript, input, select, textarea, rp, video, audio, object, iframe, svg title, svg desc"
)
"""Elements without text to read."""
BLOCKS_IN_LINE = "summary, legend, option, svg text"
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
SUPERSETS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "shift_jis": "cp932",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}
"""By declared encoding, the one with more characters that browsers use for it: pages are written in these."""

_RAW_TEXT_TAG = re.compile(rf"<({'|'.join(RAW_TEXT)})\b[^<>]*?(/?)>", re.IGNORECASE)
_RAW_TEXT_END = {tag: re.compile(rf"</{tag}\s*>", re.IGNORECASE) for tag in RAW_TEXT}
_SELF_CLOSED = re.compile(r"<([a-zA-Z][\w:.-]*)((?:\s[^<>]*)?)/>")
_DECLARED_CHARSET = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_BLOCK_TAG = re.compile(
    r"</?(?:head|body|div|p|h[1-6]|table|ul|ol|dl|pre|section|article|main|blockquote)\b", re.IGNORECASE
)
MAX_DEPTH = 32
"""Levels of lists in lists that are indented, and of elements around those that end a line; each costs time or text."""
MAX_BLOCKS = 2_000
"""Elements that end a line at any depth, if a page has no more of them."""
_LIST_TAG = re.compile(r"<(/?)(?:ul|ol|menu|dir)(?=[\s/>])", re.IGNORECASE)
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


def parse_html(raw: bytes, encoding: str = "utf-8", *, alt_texts: bool = False) -> Page:
    """Parse a page; never raises for a damaged one.

    encoding: as of `decode_html`. alt_texts: whether the alternative texts of images are read, or left out.
    """
    html = decode_html(raw, encoding)
    is_xml = html.lstrip()[:5] == "<?xml" or "http://www.w3.org/1999/xhtml" in html[:2_000]
    tree = HTMLTree.parse(_flatten_lists(close_elements(html, is_xml=is_xml)))
    if alt_texts:
        _show_alt_texts(tree)
    _remove(tree, "img")
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
    """Decode a page by its byte order mark, by an `encoding` other than UTF-8, as UTF-8, or by its declaration.

    A page that none of these decodes is decoded by the encoding that its bytes suggest; bytes that cannot be decoded
    are replaced.
    """
    for mark, name in (
        (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
        (codecs.BOM_UTF32_BE, "utf-32-be"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if raw.startswith(mark):
            return raw[len(mark) :].decode(name, "replace")
    declared = _DECLARED_CHARSET.search(raw[:_DECLARATION_BYTES])
    names = [] if declared is None else [declared[1].decode("ascii", "replace")]
    # a declaration that is read as ASCII is not UTF-16
    names = [name for name in names if not name.lower().startswith(("utf-16", "utf16", "utf-32", "utf32"))]
    # escape sequences of 7-bit encodings are valid UTF-8; other bytes above 127 are hardly ever valid by accident
    names = ["utf-8", *names] if any(byte > 127 for byte in raw) else [*names, "utf-8"]
    if encoding.lower().replace("_", "-") not in {"utf-8", "utf8"}:
        names.insert(0, encoding)
    for name in names:
        try:
            return raw.decode(name if name == encoding else _superset(name))
        except (LookupError, ValueError):
            continue
    detected = detect_encoding(raw) or "utf-8"
    return raw.decode("cp949" if detected == "utf-8" and _is_korean(raw) else _superset(detected), "replace")


def _superset(name: str) -> str:
    """The encoding that browsers use for a declared one. Raises LookupError for one that Python does not know."""
    codec = codecs.lookup(name).name
    return SUPERSETS.get(codec, codec)


def _is_korean(raw: bytes) -> bool:
    """Whether most of the characters in a page's encoding for Korean are Hangul; the detection never finds it."""
    try:
        characters = [character for character in raw.decode("cp949") if character > "\x7f"]
    except UnicodeDecodeError:
        return False
    return 2 * sum("가" <= character <= "힣" for character in characters) > len(characters)


def close_elements(html: str, *, is_xml: bool) -> str:
    """Close elements that would swallow the text that follows: without an end tag, and in XML, self-closed ones."""

    def close(match: re.Match[str]) -> str:
        void = match[1].lower() in VOID
        return match[0] if void or not is_xml else f"<{match[1]}{match[2]}></{match[1]}>"

    parts, start = [], 0
    unclosed: set[str] = set()
    """Elements without an end tag from here on."""
    while (opened := _RAW_TEXT_TAG.search(html, start)) is not None:
        parts.append(_SELF_CLOSED.sub(close, html[start : opened.start()]))
        tag, start = opened[1].lower(), opened.end()
        parts.append(opened[0])
        if opened[2]:  # self-closed
            parts.append(f"</{opened[1]}>")
            continue
        end = None if tag in unclosed else _RAW_TEXT_END[tag].search(html, start)
        if end is None:
            unclosed.add(tag)
            block = _BLOCK_TAG.search(html, start)
            stop = len(html) if block is None else block.start()
            parts += [html[start:stop], f"</{tag}>"]
        else:
            stop = end.end()
            parts.append(html[start:stop])
        start = stop
    html = "".join([*parts, _SELF_CLOSED.sub(close, html[start:])])
    comment = html.rfind("<!--")
    if comment >= 0 and "-->" not in html[comment:]:
        html = html[:comment] + html[comment + 4 :]
    return html


def _flatten_lists(html: str) -> str:
    """Make other elements of the lists that are nested deeper than MAX_DEPTH: each of their lines would be indented."""
    depth = 0

    def flatten(match: re.Match[str]) -> str:
        nonlocal depth
        is_deep = depth > MAX_DEPTH if match[1] else depth >= MAX_DEPTH
        depth = max(0, depth + (-1 if match[1] else 1))
        return f"<{match[1]}section" if is_deep else match[0]

    return _LIST_TAG.sub(flatten, html)


def _visible_text(tree: HTMLTree) -> str:
    """The text without navigation; also removes invisible elements from the tree."""
    skipped = [NAVIGATION, BANNERS] if any(True for _ in _select(tree, MAIN)) else [NAVIGATION]
    _remove(tree, INVISIBLE)
    blocks = list(_select(tree, BLOCKS_IN_LINE))
    for node in blocks:
        if len(blocks) <= MAX_BLOCKS or not _is_deep(node):
            node.append_child(tree.create_element("br"))
    for node in _select(tree, "button"):
        # the extraction would write it in brackets
        label: Any = tree.create_element("span")
        label.text = f" {node.text} "
        node.parent.replace_child(label, node)
    text = extract_plain_text(tree, list_bullets=False, alt_texts=True, form_fields=True, skip_elements=skipped)
    return text if text.strip() else ""


def _is_deep(node: Any) -> bool:
    """Whether an element has more than MAX_DEPTH ancestors: to append to it takes time in proportion to them."""
    for _ in range(MAX_DEPTH):
        node = node.parent
        if node is None:
            return False
    return True


def _show_alt_texts(tree: HTMLTree) -> None:
    """Replace images by their alternative texts."""
    for node in _select(tree, "img[alt]"):
        text: Any = tree.create_element("span")
        text.text = f" {node.getattr('alt')} "
        node.parent.replace_child(text, node)


def _remove(tree: HTMLTree, selector: str) -> None:
    for node in _select(tree, selector):
        if node.tag not in {"html", "body"}:
            node.decompose()


def _texts(tree: HTMLTree, selector: str) -> Iterator[str]:
    return (_one_line(node.text) for node in _select(tree, selector))


def _select(tree: HTMLTree, selector: str) -> Iterator[Any]:
    # the tree of an empty page has no document
    # a slice: iterating over the list of nodes itself takes quadratic time
    return iter(tree.document.query_selector_all(selector)[:] if tree.document is not None else ())


def _one_line(text: str) -> str:
    return " ".join(text.split())
