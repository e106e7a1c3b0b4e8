"""Measurements as rows for programs and as tables for people."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semsearch.errors import InputError
from semsearch.evaluation.measures import MEASURES, Values, macro_mean, paired_interval
from semsearch.evaluation.protocol import Measurement
from semsearch.system.files import atomic_write

OURS = ("semsearch", "hybrid")


@dataclass(frozen=True, slots=True)
class Improvement:
    """The difference between two methods, as a macro mean over families."""

    method: str
    over: str
    labels: int
    measure: str
    mean: float
    low: float
    high: float
    worst: float
    """Lowest mean of any data set."""
    worst_domain: str


def rows(measurements: Sequence[Measurement]) -> list[dict[str, object]]:
    """One row for each data set, method, number of labels, seed and measure; its value is the mean over queries."""
    return [
        {
            "domain": measurement.domain,
            "family": measurement.family,
            "method": measurement.method,
            "labels": measurement.labels,
            "given": measurement.given,
            "seed": measurement.seed,
            "measure": name,
            "value": round(float(values.mean()), 6),
            "queries": len(values),
            **({"chosen": measurement.chosen} if measurement.chosen else {}),
            **({"seen": True} if measurement.seen else {}),
        }
        for measurement in measurements
        for name, values in measurement.values.items()
    ]


Table = Mapping[tuple[str, int], Mapping[str, Mapping[str, Sequence[Mapping[str, Values]]]]]


def by_method(measurements: Sequence[Measurement]) -> Table:
    """(method, labels) → family → data set → by seed → measure → (queries,)."""
    table: dict[tuple[str, int], dict[str, dict[str, list[Mapping[str, Values]]]]] = {}
    for measurement in sorted(measurements, key=lambda each: (each.family, each.domain, each.seed)):
        families = table.setdefault((measurement.method, measurement.labels), {})
        datasets = families.setdefault(measurement.family, {})
        datasets.setdefault(measurement.domain, []).append(measurement.values)
    return table


def differences(table: Table, method: str, over: str, labels: int, measure: str) -> dict[str, dict[str, list[Values]]]:
    """family → data set → by seed, (queries,): `method` minus `over` on each query, with the same labels."""
    families, other = table[method, labels], table[over, labels]
    return {
        family: {
            name: [a[measure] - b[measure] for a, b in zip(seeds, other[family][name], strict=True)]
            for name, seeds in datasets.items()
        }
        for family, datasets in families.items()
    }


def improvement(table: Table, method: str, over: str, labels: int, measure: str) -> Improvement:
    """One line of a table, with a paired bootstrap interval."""
    change = differences(table, method, over, labels, measure)
    means = {
        name: float(np.mean([values.mean() for values in seeds]))
        for datasets in change.values()
        for name, seeds in datasets.items()
    }
    worst = min(means, key=lambda name: means[name])
    low, high = paired_interval(change)
    return Improvement(method, over, labels, measure, macro_mean(change), low, high, means[worst], worst)


def summary(measurements: Sequence[Measurement]) -> list[Improvement]:
    """Every method over frozen by every measure, and each of OURS over every other by nDCG@10."""
    table = by_method(measurements)
    methods = list(dict.fromkeys(measurement.method for measurement in measurements))
    labels = sorted({measurement.labels for measurement in measurements})
    lines = [
        improvement(table, method, "frozen", number, name)
        for name in MEASURES
        for method in methods
        if method != "frozen"
        for number in labels
    ]
    return lines + [
        improvement(table, ours, method, number, "nDCG@10")
        for ours in OURS
        for method in methods
        if ours in methods and method not in {*OURS, "frozen"}
        for number in labels
    ]


def save_json(
    path: Path, measurements: Sequence[Measurement], lines: Sequence[Improvement], settings: Mapping[str, object]
) -> None:
    """Rows, table and settings as one JSON file, whole or not at all. Raises InputError if the disk refuses."""
    content = {
        "settings": dict(settings),
        "table": [{name: getattr(line, name) for name in Improvement.__slots__} for line in lines],
        "rows": rows(measurements),
    }
    _write(path, json.dumps(content, ensure_ascii=False))


def check_folder(folder: Path) -> None:
    """Make a folder for results. Raises InputError if it cannot be made or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK) else "permission denied"
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        raise InputError(f"{folder} cannot be written ({reason}): choose another path")


def save_markdown(path: Path, lines: Sequence[Improvement], labels: Sequence[int]) -> Path:
    """Tables for people: every method over frozen by every measure, and each of OURS over every other."""
    parts = []
    for name in MEASURES:
        over_frozen = {
            (line.method, line.labels): line for line in lines if (line.over, line.measure) == ("frozen", name)
        }
        parts.append(f"{name} over frozen\n\n{_table(over_frozen, labels)}")
    for ours in OURS:
        over_others = {
            (line.over, line.labels): line for line in lines if line.method == ours and line.over != "frozen"
        }
        if over_others:
            parts.append(f"nDCG@10 of {ours} over each\n\n{_table(over_others, labels)}")
    _write(path, "\n\n".join(parts) + "\n")
    return path


def _table(lines: Mapping[tuple[str, int], Improvement], labels: Sequence[int]) -> str:
    body = []
    for name in dict.fromkeys(name for name, _ in lines):
        row = [lines[name, number] for number in labels]
        cells = [f"{line.mean:+.4f} [{line.low:+.4f}, {line.high:+.4f}], worst {line.worst:+.3f}" for line in row]
        body.append(f"| {name} | " + " | ".join(cells) + " |")
    head = "| | " + " | ".join(f"{number} labels" for number in labels) + " |"
    return "\n".join([head, "|---" * (len(labels) + 1) + "|", *body])


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): choose another path") from error
