"""Reads the visible text of Markdown. Does not depend on files.

Markdown is rendered to HTML, so that its HTML blocks are read as web pages are, and by the same code.
"""

from __future__ import annotations

import re

import pyromark

from semsearch.ingest.readers.html import VOID, Page, parse_html

_OPTIONS = (
    pyromark.Options.ENABLE_TABLES
    | pyromark.Options.ENABLE_FOOTNOTES
    | pyromark.Options.ENABLE_TASKLISTS
    | pyromark.Options.ENABLE_STRIKETHROUGH
    | pyromark.Options.ENABLE_DEFINITION_LIST
)
_TEXT_TAGS = ("li", "dd", "dt", "p", "option", "optgroup", "rp", "rt", "html", "head", "body")
_TABLE_TAGS = ("colgroup", "tbody", "td", "tfoot", "th", "thead", "tr")
_END_TAG_OPTIONAL = frozenset((*_TEXT_TAGS, *_TABLE_TAGS))
_START_TAG = re.compile(r"<([A-Za-z][\w.:-]*)>")
_END_TAG = re.compile(r"</([A-Za-z][\w.:-]*)\s*>")
_FOOTNOTE_REFERENCE = '<sup class="footnote-reference">'
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def parse_markdown(text: str) -> Page:
    """Parse CommonMark with tables, footnotes, task lists and definition lists; takes linear time.

    text: valid Unicode. The title is the first heading, or empty.
    """
    html = _keep_placeholders(pyromark.html(text, options=_OPTIONS))
    # the number of a footnote is not a part of the word before it
    html = html.replace(_FOOTNOTE_REFERENCE, f" {_FOOTNOTE_REFERENCE}")
    # the mark says that it is UTF-8, whatever encoding the text writes about
    return parse_html(_BYTE_ORDER_MARK + html.encode(), alt_texts=True)


def _keep_placeholders(html: str) -> str:
    """Escape what is written like a start tag but is none, such as `<name>` in `git clone <name>`.

    A tag without attributes that needs an end tag and has none is a placeholder or the name of a type.
    """
    elements = {name.lower() for name in _END_TAG.findall(html)} | VOID | _END_TAG_OPTIONAL
    return _START_TAG.sub(
        lambda match: match[0] if match[1].lower() in elements else f"&lt;{match[1]}&gt;",
        html,
    )
