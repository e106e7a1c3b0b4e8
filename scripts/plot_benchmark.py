"""The table and the plot of what `scripts/benchmark.py serving` found.

python scripts/plot_benchmark.py FOUND.json PLOT.svg
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

FLOORS = ("encode 32 together, queries/s", "encode one by one, queries/s")


def main() -> None:
    """Print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("found", type=Path)
    parser.add_argument("plot", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = json.loads(options.found.read_text())
    systems = sorted(
        {run["system"] for run in found["runs"]}, key=lambda name: (not name.startswith("semsearch"), name)
    )
    clients = sorted({run["clients"] for run in found["runs"]})

    def middle(system: str, many: int, what: str) -> float:
        its = [run[what] for run in found["runs"] if (run["system"], run["clients"]) == (system, many)]
        return float(median(its))

    print("| | " + " | ".join(f"{many} client{'s' * (many > 1)}" for many in clients) + " |")
    print("|---" * (len(clients) + 1) + "|")
    for system in systems:
        cells = [f"{middle(system, many, 'rate'):.0f}/s, {middle(system, many, 'p50'):.3g} ms" for many in clients]
        print(f"| {system} | " + " | ".join(cells) + " |")
    for name in found["limits"][0]:
        print(f"| {name} | {median(one[name] for one in found['limits']):.3g} |")

    # the same file for the same figures
    mpl.rcParams["svg.hashsalt"] = "semsearch"
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    rates, waits = figure.subplots(1, 2)
    for system in systems:
        style = "-" if system.startswith("semsearch") else "--"
        rates.plot(clients, [middle(system, many, "rate") for many in clients], style, marker="o", label=system)
        waits.plot(clients, [middle(system, many, "p50") for many in clients], style, marker="o", label=system)
    for name, style in zip(FLOORS, (":", "-."), strict=True):
        rates.axhline(median(one[name] for one in found["limits"]), color="grey", linestyle=style, label=name)
    for axes, label in ((rates, "queries/s"), (waits, "median latency, ms")):
        axes.set_xscale("log", base=4)
        axes.set_xticks(clients, [str(many) for many in clients])
        axes.set_xlabel("clients")
        axes.set_ylabel(label)
    rates.set_ylim(bottom=0)
    waits.set_yscale("log")
    rates.legend(fontsize="x-small")
    figure.savefig(options.plot, metadata={"Date": None})


if __name__ == "__main__":
    main()
