"""What the commands share: the consoles they print to and the options they all have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

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
WeightsFile = Annotated[
    Path | None,
    typer.Option(
        envvar="SEMSEARCH_WEIGHTS",
        help="Weights that semsearch learn wrote. \\[default: those that come with semsearch]",
        show_default=False,
    ),
]
