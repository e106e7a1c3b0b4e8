"""Reads the front matter of Markdown: a YAML mapping between two lines of `---`. Does not depend on files.

What stands there may also be text between two rules, such as `Note: this page is old`. Both are mappings, so a sentence
under a name that is not usual for a field is read as both: as a field, and as a part of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import yaml
from pydantic import JsonValue

from semsearch.errors import first_line
from semsearch.types import MAX_METADATA_DEPTH

MAX_CHARS = 32_768
"""Length of front matter; what is longer is text."""
USUAL_FIELDS = frozenset(
    (
        *("title", "subtitle", "linktitle", "short_title", "date", "pubdate", "published", "created", "updated"),
        *(
            "modified",
            "lastmod",
            "author",
            "authors",
            "editor",
            "contributors",
            "tag",
            "tags",
            "category",
            "categories",
        ),
        *("keywords", "topics", "description", "summary", "abstract", "excerpt", "lang", "language", "layout"),
        *("template", "type", "slug", "url", "link", "permalink", "alias", "aliases", "redirect_from", "id", "uid"),
        *("version", "status", "series", "license", "copyright", "source", "image", "cover", "cssclass", "cssclasses"),
        *("sidebar_label", "nav_title", "navtitle", "parent", "bibliography", "css", "header-includes", "output"),
    )
)
"""Names of fields, in small letters, whose values are never a part of the text."""
MIN_SENTENCE_WORDS = 3
"""Words of a sentence, at least."""
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?\n)(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_SEXAGESIMAL = re.compile(r"[-+]?\d[\d_]*(?::[0-5]?\d(?:\.[\d_]*)?)+")
"""YAML 1.1 reads `12:30` as the number 750; it is meant as a text."""
_SCALARS: Mapping[str, Callable[[yaml.ScalarNode], Any]] = {
    f"tag:yaml.org,2002:{name}": getattr(yaml.constructor.SafeConstructor(), f"construct_yaml_{name}")
    for name in ("null", "bool", "int", "float", "timestamp")
}
"""By tag, how a value that is not a text is made of its node."""


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """The fields of a text's front matter."""

    title: str = ""
    """The title as it is written; empty if there is none, or if it is a list or a mapping."""
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    """The other fields."""
    text: str = ""
    """The sentences of fields that are not usual, with their names; all of it if no field is usual."""
    problem: str = ""
    """Why it could not be read: then it is a part of the text. Empty if it was read, or if there is none."""


class _RefusedError(Exception):
    """Valid YAML that is not read."""


def split_front_matter(text: str) -> tuple[FrontMatter, str]:
    r"""Return the front matter at the start of a text, and the rest; all of the text if that is no mapping.

    text: its lines end in `\n`. Never raises, and bounds time and memory by MAX_CHARS. A value that is not what its tag
    says, such as the date 2024-13-45, is a text; tags of other kinds have no effect.
    """
    match = _FRONT_MATTER.match(text[: MAX_CHARS + 1])
    if match is None:
        return FrontMatter(), text
    try:
        # its loader in Python raises RecursionError for deep nesting, at which the one in C may crash
        root = yaml.compose(match[1], yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            return FrontMatter(), text
        converter = _Converter(match[1])
        metadata = converter.mapping(root, MAX_METADATA_DEPTH + 1)
    except (yaml.YAMLError, _RefusedError) as error:
        return FrontMatter(problem=(getattr(error, "problem", None) or first_line(error))[:200]), text
    except RecursionError:
        return FrontMatter(problem="it is nested too deeply"), text
    title = ""
    for key, value in root.value:
        if converter.key(key) == "title" and isinstance(value, yaml.ScalarNode):
            title = "" if metadata.pop("title") is None else " ".join(value.value.split())
    sentences = _sentences(metadata)
    if sentences and not title and USUAL_FIELDS.isdisjoint(map(str.casefold, metadata)):
        sentences = match[1].strip()  # with its comments, which may be headings
    return FrontMatter(title, metadata, sentences), text[match.end() :]


def _sentences(metadata: Mapping[str, JsonValue]) -> str:
    """The lines `name: text` of the fields that are not usual and have a sentence."""
    unusual = {name: list(_texts(value)) for name, value in metadata.items() if name.casefold() not in USUAL_FIELDS}
    return "\n\n".join(
        f"{name}: {'; '.join(texts)}"
        for name, texts in unusual.items()
        if any(len(text.split()) >= MIN_SENTENCE_WORDS for text in (name, *texts))
    )


def _texts(value: JsonValue) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _texts(item)


class _Converter:
    """Makes JSON values of YAML nodes; what aliases repeat may have a few times the size of the source."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._left = 4 * len(source)

    def mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, JsonValue]:
        """Raises _RefusedError for a key that occurs twice, and as `_value` does."""
        values: dict[str, JsonValue] = {}
        for key_node, value in node.value:
            key = self.key(key_node)
            if key in values:
                raise _RefusedError(f"the key {key[:100]!r} occurs twice")
            values[key] = self._value(value, depth - 1)
        return values

    def key(self, node: yaml.Node) -> str:
        """The key's text; that of a list or a mapping as it is written."""
        key = node.value if isinstance(node, yaml.ScalarNode) else None
        return self._take(key or self._source[node.start_mark.index : node.end_mark.index].strip())

    def _value(self, node: yaml.Node, depth: int) -> JsonValue:
        """Raises _RefusedError if it is nested too deeply, or too large because of its aliases."""
        self._take(" ")
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node, self._take(node.value))
        if not depth:
            raise _RefusedError(f"it is nested more than {MAX_METADATA_DEPTH} levels deep")
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, depth)
        return [self._value(item, depth - 1) for item in node.value]

    def _take(self, text: str) -> str:
        self._left -= len(text)
        if self._left < 0:
            raise _RefusedError("its aliases repeat too much")
        return text


def _scalar(node: yaml.ScalarNode, text: str) -> JsonValue:
    construct = _SCALARS.get(node.tag)
    if construct is None or _SEXAGESIMAL.fullmatch(text):
        return text
    try:
        value = construct(node)
    except (ValueError, OverflowError, LookupError, AttributeError, TypeError):
        return text
    if isinstance(value, float) and not isfinite(value):
        return text
    return value if isinstance(value, bool | int | float | None) else value.isoformat()
