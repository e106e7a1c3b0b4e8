"""What was measured, as rows for programs and as tables and plots for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semsearch.errors import InputError
from semsearch.evaluation.measures import MEASURES, Values, macro_mean, paired_interval
from semsearch.evaluation.protocol import Measured
from semsearch.system.files import atomic_write

OURS = ("semsearch", "hybrid")


@dataclass(frozen=True, slots=True)
class Gain:
    """What one method has over another, as a macro mean over families."""

    method: str
    over: str
    labels: int
    measure: str
    mean: float
    low: float
    high: float
    worst: float
    """Lowest mean of a domain."""
    worst_domain: str


def rows(measured: Sequence[Measured]) -> list[dict[str, object]]:
    """One row a domain, method, number of labels, seed and measure; the value is the mean over queries."""
    return [
        {
            "domain": one.domain,
            "family": one.family,
            "method": one.method,
            "labels": one.labels,
            "given": one.given,
            "seed": one.seed,
            "measure": name,
            "value": round(float(values.mean()), 6),
            "queries": len(values),
            **({"chosen": one.chosen} if one.chosen else {}),
            **({"seen": True} if one.seen else {}),
        }
        for one in measured
        for name, values in one.values.items()
    ]


Table = Mapping[tuple[str, int], Mapping[str, Mapping[str, Sequence[Mapping[str, Values]]]]]


def arranged(measured: Sequence[Measured]) -> Table:
    """(method, labels) → family → domain → by seed → measure → (queries,)."""
    table: dict[tuple[str, int], dict[str, dict[str, list[Mapping[str, Values]]]]] = {}
    for one in sorted(measured, key=lambda one: (one.family, one.domain, one.seed)):
        place = table.setdefault((one.method, one.labels), {}).setdefault(one.family, {})
        place.setdefault(one.domain, []).append(one.values)
    return table


def differences(table: Table, method: str, over: str, labels: int, measure: str) -> dict[str, dict[str, list[Values]]]:
    """family → domain → by seed, query by query, what `method` has over `over` with the same labels."""
    mine, other = table[method, labels], table[over, labels]
    return {
        family: {
            domain: [a[measure] - b[measure] for a, b in zip(seeds, other[family][domain], strict=True)]
            for domain, seeds in domains.items()
        }
        for family, domains in mine.items()
    }


def gain(table: Table, method: str, over: str, labels: int, measure: str) -> Gain:
    """One line of a table, with a paired bootstrap interval."""
    apart = differences(table, method, over, labels, measure)
    by_domain = {
        domain: float(np.mean([values.mean() for values in seeds]))
        for domains in apart.values()
        for domain, seeds in domains.items()
    }
    worst = min(by_domain, key=lambda name: by_domain[name])
    low, high = paired_interval(apart)
    return Gain(method, over, labels, measure, macro_mean(apart), low, high, by_domain[worst], worst)


def summary(measured: Sequence[Measured]) -> list[Gain]:
    """Every method over frozen by every measure, and each of OURS over every other by nDCG@10."""
    table = arranged(measured)
    methods = list(dict.fromkeys(one.method for one in measured))
    labels = sorted({one.labels for one in measured})
    lines = [
        gain(table, method, "frozen", number, name)
        for name in MEASURES
        for method in methods
        if method != "frozen"
        for number in labels
    ]
    return lines + [
        gain(table, ours, method, number, "nDCG@10")
        for ours in OURS
        for method in methods
        if ours in methods and method not in {*OURS, "frozen"}
        for number in labels
    ]


def save_json(path: Path, measured: Sequence[Measured], lines: Sequence[Gain], settings: Mapping[str, object]) -> None:
    """Rows, table and settings as one JSON file, whole or not at all. Raises InputError if the disk refuses."""
    content = {
        "settings": dict(settings),
        "table": [{name: getattr(line, name) for name in Gain.__slots__} for line in lines],
        "rows": rows(measured),
    }
    _write(path, json.dumps(content, ensure_ascii=False))


def save_markdown(path: Path, lines: Sequence[Gain], labels: Sequence[int]) -> Path:
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


def _table(lines: Mapping[tuple[str, int], Gain], labels: Sequence[int]) -> str:
    body = []
    for name in dict.fromkeys(name for name, _ in lines):
        mine = [lines[name, number] for number in labels]
        said = [f"{line.mean:+.4f} [{line.low:+.4f}, {line.high:+.4f}], worst {line.worst:+.3f}" for line in mine]
        body.append(f"| {name} | " + " | ".join(said) + " |")
    head = "| | " + " | ".join(f"{number} labels" for number in labels) + " |"
    return "\n".join([head, "|---" * (len(labels) + 1) + "|", *body])


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): choose another place") from error
