"""What the commands share: the consoles they print to and the options they all have."""

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
    typer.Option(min=1, envvar="SEMSEARCH_THREADS", help="CPU threads. \\[default: all cores]", show_default=False),
]
Device = Annotated[
    str,
    typer.Option(envvar="SEMSEARCH_DEVICE", help="auto, cpu, cuda or cuda:N; auto takes CUDA where there is one."),
]
FilterOption = Annotated[
    str | None,
    typer.Option(
        "--filter",
        "-f",
        help='What metadata must meet: kind = "how-to" and year >= 2020 and not lang in (de, fr).'
        " Also !=, ^= (begins with), exists, or.",
        show_default=False,
    ),
]
WeightsFile = Annotated[
    Path | None,
    typer.Option(
        envvar="SEMSEARCH_WEIGHTS",
        help="Weights that semsearch learn wrote. \\[default: those that come with semsearch]",
        show_default=False,
    ),
]


def parsed_filter(expression: str | None) -> Filter | None:
    """What --filter says. Raises typer.BadParameter where it cannot be understood."""
    from semsearch.filters.expression import parse_optional_filter

    try:
        return parse_optional_filter(expression)
    except FilterError as error:
        raise typer.BadParameter(str(error), param_hint="--filter") from None
