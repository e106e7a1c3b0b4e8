"""Print the table and draw the plot of a result of `scripts/benchmark.py serving`.

python scripts/plot_benchmark.py RESULT.json PLOT.svg
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

REFERENCE_LINES = ("encode 32 together, queries/s", "encode one by one, queries/s")


def main() -> None:
    """Print the table, and save the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("plot", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = json.loads(options.result.read_text())
    systems = sorted(
        {run["system"] for run in result["runs"]}, key=lambda name: (not name.startswith("semsearch"), name)
    )
    clients = sorted({run["clients"] for run in result["runs"]})

    def median_of(system: str, count: int, figure: str) -> float:
        values = [run[figure] for run in result["runs"] if (run["system"], run["clients"]) == (system, count)]
        return float(median(values))

    print("| | " + " | ".join(f"{count} client{'s' * (count > 1)}" for count in clients) + " |")
    print("|---" * (len(clients) + 1) + "|")
    for system in systems:
        cells = [
            f"{median_of(system, count, 'rate'):.0f}/s, {median_of(system, count, 'p50'):.3g} ms" for count in clients
        ]
        print(f"| {system} | " + " | ".join(cells) + " |")
    for name in result["limits"][0]:
        print(f"| {name} | {median(run[name] for run in result['limits']):.3g} |")

    # the same numbers give the same file
    mpl.rcParams["svg.hashsalt"] = "semsearch"
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    rates, latencies = figure.subplots(1, 2)
    for system in systems:
        style = "-" if system.startswith("semsearch") else "--"
        rates.plot(clients, [median_of(system, count, "rate") for count in clients], style, marker="o", label=system)
        latencies.plot(clients, [median_of(system, count, "p50") for count in clients], style, marker="o", label=system)
    for name, style in zip(REFERENCE_LINES, (":", "-."), strict=True):
        rates.axhline(median(run[name] for run in result["limits"]), color="grey", linestyle=style, label=name)
    for axes, label in ((rates, "queries/s"), (latencies, "median latency, ms")):
        axes.set_xscale("log", base=4)
        axes.set_xticks(clients, [str(count) for count in clients])
        axes.set_xlabel("clients")
        axes.set_ylabel(label)
    rates.set_ylim(bottom=0)
    latencies.set_yscale("log")
    rates.legend(fontsize="x-small")
    figure.savefig(options.plot, metadata={"Date": None})


if __name__ == "__main__":
    main()
