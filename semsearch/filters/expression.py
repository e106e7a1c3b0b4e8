"""The expression syntax of filters: `kind = "how-to" and year >= 2020 and not lang in (de, fr)`.

    NAME = VALUE     !=  >  >=  <  <=      ^= begins with      NAME in (VALUE, …)      NAME exists
    not …   … and …   … or …   ( … )       `not` binds closest, then `and`, then `or`

A number or `true` and `false` without quotation marks is a number or a boolean; all other values, and all in quotation
marks, are texts. Names and texts that contain spaces or signs need quotation marks. Two bounds of one field, joined by
`and`, are one comparison. For the JSON form, see `semsearch.filters.tree`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedInput, UnexpectedToken, VisitError
from pydantic import ValidationError

from semsearch.errors import FilterError
from semsearch.filters.tree import And, Comparison, Filter, Not, Or, check_size
from semsearch.filters.values import OWN_FIELDS, Scalar, parse_boolean, parse_number, typed

MAX_EXPRESSION_CHARS = 4_000
"""Maximum length of an expression in characters."""

_GRAMMAR = r"""
start: disjunction
?disjunction: conjunction ("or"i conjunction)*
?conjunction: operand ("and"i operand)*
?operand: "not"i operand -> negation
    | "(" disjunction ")"
    | text SIGN text -> comparison
    | text "in"i "(" text ("," text)* ")" -> one_of
    | text "not"i "in"i "(" text ("," text)* ")" -> none_of
    | text "exists"i -> exists
text: WORD | QUOTED
SIGN: "!=" | ">=" | "<=" | "^=" | "=" | ">" | "<"
QUOTED: /"(\\.|[^"\\])*"|'(\\.|[^'\\])*'/
WORD: /[^\s()=!<>^,"']+/
%import common.WS
%ignore WS
"""
_ESCAPED = {mark: re.compile(rf"\\([\\{mark}])") for mark in "\"'"}
_BOUNDS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", lexer="contextual", maybe_placeholders=False)


class _FilterBuilder(Transformer[Token, Any]):
    """Transforms a parsed expression into a filter tree."""

    def start(self, parts: Sequence[Filter]) -> Filter:
        return parts[0]

    def disjunction(self, parts: Sequence[Filter]) -> Filter:
        return Or(any_of=tuple(parts))

    def conjunction(self, parts: Sequence[Filter]) -> Filter:
        parts = _joined_bounds(parts)
        return And(all_of=tuple(parts)) if len(parts) > 1 else parts[0]

    def negation(self, parts: Sequence[Filter]) -> Filter:
        return Not(operand=parts[0])

    def text(self, parts: Sequence[Token]) -> Token:
        return parts[0]

    def comparison(self, parts: Sequence[Token]) -> Filter:
        name, sign, value = _unquoted(parts[0]), str(parts[1]), parts[2]
        if sign == "^=":
            return Comparison(field=name, prefix=_unquoted(value))
        if sign in _BOUNDS:
            return Comparison.model_validate({"field": name, _BOUNDS[sign]: _scalar(name, value)})
        equal = Comparison(field=name, eq=_scalar(name, value))
        return Not(operand=equal) if sign == "!=" else equal

    def one_of(self, parts: Sequence[Token]) -> Filter:
        name = _unquoted(parts[0])
        return Comparison(field=name, one_of=tuple(_scalar(name, value) for value in parts[1:]))

    def none_of(self, parts: Sequence[Token]) -> Filter:
        return Not(operand=self.one_of(parts))

    def exists(self, parts: Sequence[Token]) -> Filter:
        return Comparison(field=_unquoted(parts[0]), exists=True)


def _unquoted(token: Token) -> str:
    if token.type != "QUOTED":
        return str(token)
    return _ESCAPED[token[0]].sub(r"\1", token[1:-1])


def _scalar(field: str, token: Token) -> Scalar:
    """The value of a token. Without quotation marks, it may be a number or a boolean, unless the field holds texts."""
    text = _unquoted(token)
    if token.type == "QUOTED" or field in OWN_FIELDS:
        return text
    if text.lower() == "null":
        raise ValueError(f'null is not a value: write `not {field} exists`, or "{text}" for the text')
    if (number := parse_number(text)) is not None:
        return number
    boolean = parse_boolean(text)
    return text if boolean is None else boolean


def _joined_bounds(parts: Sequence[Filter]) -> list[Filter]:
    """The parts; a lower and an upper bound of one field become one comparison, so that one value must meet both."""
    joined: list[Filter] = []
    for part in parts:
        for index, earlier in enumerate(joined):
            if (both := _joined(earlier, part)) is not None:
                joined[index] = both
                break
        else:
            joined.append(part)
    return joined


def _joined(first: Filter, second: Filter) -> Comparison | None:
    """One comparison for a lower and an upper bound; None for other filters, and for bounds of different kinds."""
    if not isinstance(first, Comparison) or not isinstance(second, Comparison) or first.field != second.field:
        return None
    if sorted(sign[0] for sign in (*first.bounds, *second.bounds)) != ["<", ">"]:
        return None
    bounds = first.model_dump(exclude_none=True) | second.model_dump(exclude_none=True)
    try:
        return Comparison.model_validate(bounds)
    except ValidationError:
        return None


def parse_filter(expression: str) -> Filter:
    """Parse an expression. Raises FilterError naming the mistake and its position."""
    if len(expression) > MAX_EXPRESSION_CHARS:
        raise FilterError(
            f"the filter has {len(expression)} characters, at most {MAX_EXPRESSION_CHARS} are allowed: send it as JSON"
        )
    try:
        tree: Filter = _FilterBuilder().transform(_parser().parse(expression))
        return check_size(tree)
    except UnexpectedInput as error:
        ended = isinstance(error, UnexpectedToken) and error.token.type == "$END"
        location = "at its end" if ended else f"at {expression[error.pos_in_stream :][:20]!r}"
        raise FilterError(
            f"the filter {_excerpt(expression)} cannot be read {location}:"
            ' write it like kind = "how-to" and year >= 2020'
        ) from None
    except VisitError as error:
        reason = error.orig_exc
        message = reason.errors()[0]["msg"] if isinstance(reason, ValidationError) else str(reason)
        raise FilterError(f"the filter {_excerpt(expression)}: {message}") from None
    except (ValueError, RecursionError) as error:
        message = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise FilterError(f"the filter {_excerpt(expression)}: {message}") from None


def parse_optional_filter(expression: str | None) -> Filter | None:
    """As `parse_filter`, but returns None for None and for a blank expression."""
    return None if expression is None or not expression.strip() else parse_filter(expression)


def _excerpt(expression: str) -> str:
    return repr(expression if len(expression) <= 80 else f"{expression[:79]}…")


def write_filter(tree: Filter) -> str:
    """Return a filter that `parse_filter` returned as an expression again."""
    if isinstance(tree, Not):
        return f"not {_operand(tree.operand)}"
    if isinstance(tree, And | Or):
        parts = tree.all_of if isinstance(tree, And) else tree.any_of
        return (" and " if isinstance(tree, And) else " or ").join(map(_operand, parts))
    return _write_comparison(tree)


def _write_comparison(tree: Comparison) -> str:
    name = write_name(tree.field)
    if tree.exists is not None:
        return f"{name} exists" if tree.exists else f"not {name} exists"
    if tree.prefix is not None:
        return f"{name} ^= {quote(tree.prefix)}"
    if tree.one_of is not None:
        return f"{name} in ({', '.join(map(write_value, tree.one_of))})"
    if tree.eq is not None:
        return f"{name} = {write_value(tree.eq)}"
    return " and ".join(f"{name} {sign} {write_value(bound)}" for sign, bound in tree.bounds.items())


def _operand(tree: Filter) -> str:
    text = write_filter(tree)
    is_compound = isinstance(tree, And | Or) or (isinstance(tree, Comparison) and len(tree.bounds) > 1)
    return f"({text})" if is_compound else text


def write_name(name: str) -> str:
    """Return a field name as it is written in an expression."""
    is_plain = name.replace(".", "").replace("_", "").isalnum() and name.isascii()
    return name if is_plain and name.lower() not in {"and", "or", "not", "in", "exists"} else quote(name)


def write_value(value: Scalar) -> str:
    """Return a value as it is written in an expression: texts in quotation marks."""
    return quote(value) if isinstance(value, str) else typed(value).text


def quote(text: str) -> str:
    """Return a text in quotation marks."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
