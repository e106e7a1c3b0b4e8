"""Three plots of an evaluation: improvement by number of labels, a forest of data sets, and the guard's choices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semsearch.errors import InputError
from semsearch.evaluation.measures import paired_interval
from semsearch.evaluation.protocol import Measurement
from semsearch.evaluation.report import ALL, Improvement, by_method, check_folder, differences
from semsearch.system.extras import install_command

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, QUIET, BEST = "#1b1f24", "#8a939c", "#0b6e4f"


def draw(folder: Path, measurements: Sequence[Measurement], lines: Sequence[Improvement]) -> list[Path]:
    """Write gain.png, forest.png and chosen.png of the first skew; returns their paths.

    Raises InputError as `check_plots`, and where the folder cannot be written.
    """
    check_plots(folder)
    from matplotlib.figure import Figure

    measurements = [each for each in measurements if each.skew == measurements[0].skew]
    lines = [line for line in lines if line.skew == measurements[0].skew and line.group == line.queries == ALL]
    figures = {"gain.png": _improvement(lines, Figure)}
    if any(measurement.method == "semsearch" and measurement.labels for measurement in measurements):
        figures |= {"forest.png": _forest(measurements, Figure), "chosen.png": _chosen(measurements, Figure)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            figure.savefig(folder / name, dpi=110, bbox_inches="tight", facecolor="white", metadata={"Software": None})
    except OSError as error:
        raise InputError(f"plots cannot be written to {folder} ({error.strerror}): choose another --plots") from error
    return [folder / name for name in figures]


def check_plots(folder: Path) -> None:
    """Raise InputError if matplotlib is not installed, or if `folder` cannot be made."""
    if find_spec("matplotlib") is None:
        command = install_command("matplotlib", "evaluate")
        raise InputError(f"plots need matplotlib: {command}, or leave --plots out")
    check_folder(folder)


def _improvement(lines: Sequence[Improvement], figure_of: type[Figure]) -> Figure:
    """Macro nDCG@10 over frozen against the number of labels, one line a method."""
    figure = figure_of(figsize=(8.5, 5))
    axes = figure.add_subplot()
    over = [line for line in lines if line.over == "frozen" and line.measure == "nDCG@10"]
    shown = [name for name in dict.fromkeys(line.method for line in over) if not name.startswith("member:")]
    numbers = sorted({line.labels for line in over})
    positions = {number: position for position, number in enumerate(numbers)}
    ends = []
    for order, name in enumerate(shown):
        curve = sorted((line for line in over if line.method == name), key=lambda line: line.labels)
        x, y = [positions[line.labels] for line in curve], [line.mean for line in curve]
        ours = name == "semsearch"
        colour = BEST if ours else f"C{order}"
        axes.plot(x, y, color=colour, linewidth=2.6 if ours else 1.2, marker="o", markersize=4, zorder=3 if ours else 2)
        if ours:
            axes.fill_between(x, [line.low for line in curve], [line.high for line in curve], color=colour, alpha=0.15)
        ends.append((y[-1], name, colour))
    bottom, top = axes.get_ylim()
    last = -np.inf
    for height, name, colour in sorted(ends):
        last = max(height, last + 0.045 * (top - bottom))
        axes.annotate(name, (max(positions.values()) + 0.06, last), color=colour, va="center", fontsize=9)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xticks(list(positions.values()), [str(number) for number in numbers])
    axes.set_xlabel("labelled queries")
    axes.set_ylabel("nDCG@10 over frozen, mean over families")
    axes.set_title("What the same labels buy (band: 95% of the guarded method)", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _forest(measurements: Sequence[Measurement], figure_of: type[Figure]) -> Figure:
    """Every data set's improvement with its interval, a panel for each number of labels."""
    table = by_method(measurements)
    numbers = [number for number in sorted({measurement.labels for measurement in measurements}) if number]
    most = differences(table, "semsearch", "frozen", numbers[-1], "nDCG@10")
    names = sorted(
        ((family, domain) for family, domains in most.items() for domain in domains),
        key=lambda name: np.mean([sample.mean() for sample in most[name[0]][name[1]]]),
    )
    figure = figure_of(figsize=(3.4 * len(numbers) + 2, 0.2 * len(names) + 1.4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(numbers), sharey=True, sharex=True))
    for panel, number in zip(panels, numbers, strict=True):
        change = differences(table, "semsearch", "frozen", number, "nDCG@10")
        bare = differences(table, "unguarded", "frozen", number, "nDCG@10") if ("unguarded", number) in table else {}
        for row, (family, domain) in enumerate(names):
            seeds = change[family][domain]
            mean = float(np.mean([sample.mean() for sample in seeds]))
            low, high = paired_interval({family: {domain: seeds}}, samples=400)
            panel.plot([low, high], [row, row], color=BEST, linewidth=1.2)
            panel.plot(mean, row, "o", color=BEST, markersize=4)
            if bare:
                panel.plot(
                    np.mean([sample.mean() for sample in bare[family][domain]]), row, "x", color=QUIET, markersize=4
                )
        panel.axvline(0, color=INK, linewidth=0.8)
        panel.set_title(f"{number} labels", fontsize=10)
        panel.set_xlabel("nDCG@10 over frozen")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), [domain for _, domain in names], fontsize=8)
    panels[0].set_ylim(-0.7, len(names) - 0.3)
    figure.suptitle("Guarded (dots, 95%) and unguarded (crosses), by domain", fontsize=11)
    return figure


def _chosen(measurements: Sequence[Measurement], figure_of: type[Figure]) -> Figure:
    """How often the guard chose each candidate, for each number of labels."""
    guarded = [each for each in measurements if each.method == "semsearch" and each.labels]
    numbers = sorted({each.labels for each in guarded})
    domains = sorted({each.domain for each in guarded})
    kinds = sorted({each.chosen for each in guarded} - {"none"}, key=_order)
    colours = {"none": "#d5dadf"} | {kind: f"C{index % 10}" for index, kind in enumerate(kinds)}
    figure = figure_of(figsize=(3.2 * len(numbers) + 2, 0.2 * len(domains) + 1.8), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(numbers), sharey=True))
    for panel, number in zip(panels, numbers, strict=True):
        for row, domain in enumerate(reversed(domains)):
            counts = Counter(each.chosen for each in guarded if each.labels == number and each.domain == domain)
            left = 0
            for kind in ["none", *kinds]:
                panel.barh(row, counts[kind], left=left, color=colours[kind], height=0.8)
                left += counts[kind]
        panel.set_title(f"{number} labels", fontsize=10)
        panel.set_xlabel("seeds")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(domains)), list(reversed(domains)), fontsize=8)
    panels[0].set_ylim(-0.7, len(domains) - 0.3)
    for kind in ["none", *kinds]:
        panels[-1].barh(0, 0, color=colours[kind], label="declined" if kind == "none" else kind)
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=8, frameon=False)
    figure.suptitle("What the guard chose, by domain", fontsize=11)
    return figure


def _order(kind: str) -> tuple[float, ...]:
    return tuple(float(part.split("×")[1]) for part in kind.split(", "))
