"""The expression syntax of filters: `kind = "how-to" and year >= 2020 and not lang in (de, fr)`.

    NAME = VALUE     !=  >  >=  <  <=      ^= begins with      NAME in (VALUE, …)      NAME exists
    not …   … and …   … or …   ( … )       `not` binds closest, then `and`, then `or`

Quote names and values that contain spaces or signs. For the JSON form, see `semsearch.filters.tree`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedInput, UnexpectedToken, VisitError
from pydantic import ValidationError

from semsearch.errors import FilterError
from semsearch.filters.tree import And, Comparison, Filter, Not, Or, check_size

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
        return And(all_of=tuple(parts))

    def negation(self, parts: Sequence[Filter]) -> Filter:
        return Not(operand=parts[0])

    def text(self, parts: Sequence[Token]) -> str:
        token = parts[0]
        if token.type != "QUOTED":
            return str(token)
        content, quotation_mark = token[1:-1], token[0]
        return content.replace(f"\\{quotation_mark}", quotation_mark).replace("\\\\", "\\")

    def comparison(self, parts: Sequence[str]) -> Filter:
        name, sign, value = parts
        if sign == "!=":
            return Not(operand=Comparison(field=name, eq=value))
        if sign == "=":
            return Comparison(field=name, eq=value)
        if sign == "^=":
            return Comparison(field=name, prefix=value)
        return Comparison.model_validate({"field": name, _BOUNDS[sign]: value})

    def one_of(self, parts: Sequence[str]) -> Filter:
        return Comparison(field=parts[0], one_of=tuple(parts[1:]))

    def none_of(self, parts: Sequence[str]) -> Filter:
        return Not(operand=self.one_of(parts))

    def exists(self, parts: Sequence[str]) -> Filter:
        return Comparison(field=parts[0], exists=True)


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


def quote(value: object) -> str:
    """Return a name or a value quoted for an expression."""
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
