"""Consoles and options that several commands share."""

from __future__ import annotations

import codecs
import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from semsearch.errors import FilterError, QueryError
from semsearch.filters.tree import Filter

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Threads = Annotated[
    int | None,
    typer.Option(
        min=1, envvar="SEMSEARCH_THREADS", help="Number of CPU threads. \\[default: all cores]", show_default=False
    ),
]
Device = Annotated[
    str,
    typer.Option(
        envvar="SEMSEARCH_DEVICE", help="Device of the encoder: auto, cpu, cuda or cuda:N; auto uses CUDA if available."
    ),
]
FilterOption = Annotated[
    str | None,
    typer.Option(
        "--filter",
        "-f",
        help='Show only documents whose metadata match, for example: kind = "how-to" and year >= 2020'
        " and not lang in (de, fr). Also !=, ^= (starts with), exists, or.",
        show_default=False,
    ),
]
WeightsFile = Annotated[
    Path | None,
    typer.Option(
        envvar="SEMSEARCH_WEIGHTS",
        help="Weights file written by `semsearch learn`. \\[default: the file included in semsearch]",
        show_default=False,
    ),
]


def usage_error(error: QueryError) -> typer.BadParameter:
    """Return the error of a wrong usage, which names the option that a query's error is about."""
    hints = {"query": "QUERY", "k": "-k"}
    return typer.BadParameter(str(error), param_hint=hints.get(error.field, f"--{error.field}"))


def write_json(value: object, *, indent: int | None = None) -> None:
    """Write a value to standard output as JSON and a line end; characters are escaped unless it is in UTF-8."""
    in_utf8 = codecs.lookup(sys.stdout.encoding or "utf-8").name == "utf-8"
    sys.stdout.write(json.dumps(value, ensure_ascii=not in_utf8, indent=indent) + "\n")


def parsed_filter(expression: str | None) -> Filter | None:
    """Parse --filter. Raises typer.BadParameter for an expression that is not valid."""
    from semsearch.filters.expression import parse_optional_filter

    try:
        return parse_optional_filter(expression)
    except FilterError as error:
        raise typer.BadParameter(str(error), param_hint="--filter") from None
