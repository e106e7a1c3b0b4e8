"""Consoles and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from semsearch.errors import FilterError
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


def parsed_filter(expression: str | None) -> Filter | None:
    """Parse --filter. Raises typer.BadParameter for an expression that is not valid."""
    from semsearch.filters.expression import parse_optional_filter

    try:
        return parse_optional_filter(expression)
    except FilterError as error:
        raise typer.BadParameter(str(error), param_hint="--filter") from None
