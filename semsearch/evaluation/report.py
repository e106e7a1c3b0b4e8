"""Measurements as rows for programs and as tables for people."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from semsearch.errors import InputError
from semsearch.evaluation.labelling import LabelSource
from semsearch.evaluation.measures import MEASURES, Sample, dataset_means, macro_mean, paired_interval
from semsearch.evaluation.protocol import Measurement
from semsearch.evaluation.significance import significantly_worse
from semsearch.system.files import atomic_write

OURS = ("semsearch", "semantic", "hybrid")
NO_LABELS = "no labels"
"""Stands for the same search without labels, among the methods that a method is compared with."""
ALL, UNLABELLED = "all", "unlabelled"


@dataclass(frozen=True, slots=True)
class Improvement:
    """The difference between two methods, as a macro mean over families."""

    method: str
    over: str
    """Another method, or NO_LABELS."""
    labels: int
    measure: str
    mean: float
    low: float
    high: float
    worst: float
    """Lowest mean of any data set."""
    worst_domain: str
    value: float
    """The method's own macro mean."""
    skew: float = 0.0
    queries: str = ALL
    """`all` measured queries, or the `unlabelled` ones."""
    group: str = ALL
    """`all` data sets, those of one `language:…`, or of one `family:…`."""
    domains: int = 0
    """Number of data sets."""
    worse: tuple[str, ...] | None = None
    """Data sets that are significantly worse, see `significantly_worse`; None if they were not tested."""
    tests: int = 0
    """Number of tests."""


def rows(measurements: Sequence[Measurement]) -> list[dict[str, object]]:
    """One row for each data set, method, number of labels, skew, seed and measure.

    Its value is the mean over queries; with a skew, `unlabelled` is that of the queries that were not labelled.
    """
    return [
        {
            "domain": measurement.domain,
            "family": measurement.family,
            "method": measurement.method,
            "labels": measurement.labels,
            "given": measurement.given,
            "seed": measurement.seed,
            "measure": name,
            "value": round(measurement.sample(name).mean(), 6),
            "queries": len(measurement.queries),
            **({"skew": measurement.skew, **_unlabelled_value(measurement, name)} if measurement.skew else {}),
            **({"labels_from": str(measurement.labels_from)} if measurement.labels_from is not LabelSource.ALL else {}),
            **({"chosen": measurement.chosen} if measurement.chosen else {}),
            **({"seen": True} if measurement.seen else {}),
        }
        for measurement in measurements
        for name in measurement.values
    ]


def _unlabelled_value(measurement: Measurement, name: str) -> dict[str, float]:
    """The mean over the queries that were not labelled; empty if all were."""
    sample = measurement.sample(name, unlabelled=True)
    return {"unlabelled": round(sample.mean(), 6)} if len(sample.values) else {}


Table = Mapping[tuple[str, int], Mapping[str, Mapping[str, Sequence[Measurement]]]]


def by_method(measurements: Sequence[Measurement]) -> Table:
    """(method, labels) → family → data set → by seed. measurements: with one skew."""
    table: dict[tuple[str, int], dict[str, dict[str, list[Measurement]]]] = {}
    for measurement in sorted(measurements, key=lambda each: (each.family, each.domain, each.seed)):
        families = table.setdefault((measurement.method, measurement.labels), {})
        datasets = families.setdefault(measurement.family, {})
        datasets.setdefault(measurement.domain, []).append(measurement)
    return table


def differences(
    table: Table, method: str, over: str, labels: int, measure: str, *, unlabelled: bool = False
) -> dict[str, dict[str, list[Sample]]]:
    """family → data set → by seed: `method` minus `over` on each query, with the same labels or with NO_LABELS.

    unlabelled: only on queries that were not labelled; a data set without such queries is left out.
    """
    other = table[method, 0] if over == NO_LABELS else table[over, labels]
    values = {
        (name, each.seed): each.values[measure]
        for datasets in other.values()
        for name, seeds in datasets.items()
        for each in seeds
    }

    def difference(each: Measurement) -> Sample:
        change = each.values[measure] - values[each.domain, each.seed]
        return replace(each, values={measure: change}).sample(measure, unlabelled=unlabelled)

    return _samples(table[method, labels], difference)


def _samples(
    families: Mapping[str, Mapping[str, Sequence[Measurement]]], take: Callable[[Measurement], Sample]
) -> dict[str, dict[str, list[Sample]]]:
    """family → data set → by seed, without empty samples, and without data sets that have only these."""
    samples: dict[str, dict[str, list[Sample]]] = {}
    for family, datasets in families.items():
        for name, seeds in datasets.items():
            if kept := [sample for sample in map(take, seeds) if len(sample.values)]:
                samples.setdefault(family, {})[name] = kept
    return samples


def improvement(
    table: Table, method: str, over: str, labels: int, measure: str, *, unlabelled: bool = False, test: bool = False
) -> Improvement:
    """One line of a table, with a paired bootstrap interval.

    unlabelled: only on queries that were not labelled, of which there must be one. test: whether to test each data set.
    """
    change = differences(table, method, over, labels, measure, unlabelled=unlabelled)
    means = {name: mean for datasets in change.values() for name, mean in dataset_means(datasets).items()}
    worst = min(means, key=lambda name: means[name])
    low, high = paired_interval(change)
    tested = significantly_worse(change) if test else None
    return Improvement(
        method,
        over,
        labels,
        measure,
        mean=macro_mean(change),
        low=low,
        high=high,
        worst=means[worst],
        worst_domain=worst,
        value=macro_mean(
            _samples(table[method, labels], lambda each: each.sample(measure, unlabelled=unlabelled)),
        ),
        queries=UNLABELLED if unlabelled else ALL,
        domains=len(means),
        worse=None if tested is None else tested.worse,
        tests=0 if tested is None else tested.tests,
    )


def summary(measurements: Sequence[Measurement]) -> list[Improvement]:
    """All lines of the tables, for each skew.

    Over all data sets: every method over frozen by every measure, each of OURS over every other by nDCG@10, and over
    the same search without labels, if that was measured. By nDCG@10 for each language and for each family, where there
    are several: OURS over frozen, and over the same search without labels. With a skew, these two also on the queries
    that were not labelled.
    """
    lines: list[Improvement] = []
    for skew in dict.fromkeys(each.skew for each in measurements):
        measured = [each for each in measurements if each.skew == skew]
        table = by_method(measured)
        of_skew = [
            improvement(table, *each, test=each[3] == "nDCG@10" and each[1] in {"frozen", NO_LABELS})
            for each in _comparisons(table)
        ]
        for group, members in {ALL: measured, **_groups(measured)}.items():
            table = by_method(members)
            if group != ALL:
                of_skew += [
                    replace(improvement(table, *each, test=True), group=group) for each in _over_unadapted(table)
                ]
            if skew:
                of_skew += [
                    replace(improvement(table, *each, unlabelled=True, test=True), group=group)
                    for each in _over_unadapted(table)
                    if _has_unlabelled(table[each[0], each[2]])
                ]
        lines += [replace(line, skew=skew) for line in of_skew]
    return lines


Comparison = tuple[str, str, int, str]
"""Method, the method that it is compared with, number of labels, measure."""


def _comparisons(table: Table) -> list[Comparison]:
    """Those over all data sets and all measured queries."""
    methods, labels = list(dict.fromkeys(method for method, _ in table)), sorted({number for _, number in table})
    lines: list[Comparison] = [
        (method, "frozen", number, name)
        for name in MEASURES
        for method in methods
        if method != "frozen"
        for number in labels
    ]
    lines += [
        (ours, method, number, "nDCG@10")
        for ours in OURS
        for method in methods
        if ours in methods and method not in {"frozen", *OURS[OURS.index(ours) :]}
        for number in labels
    ]
    return lines + [each for each in _over_unadapted(table) if each[1] == NO_LABELS]


def _over_unadapted(table: Table) -> list[Comparison]:
    """OURS over frozen, and over the same search without labels, which is another for those of ADAPTED."""
    return [
        (method, over, number, "nDCG@10")
        for method, number in table
        if method in OURS and number > 0
        for over in ("frozen", NO_LABELS)
        if over == "frozen" or (method, 0) in table
    ]


def _groups(measurements: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    """The measurements of each language, if there are several, and of each family, if there are several."""
    groups: dict[str, list[Measurement]] = {}
    for kind in ("language", "family"):
        names = sorted({getattr(each, kind) for each in measurements} - {""})
        if len(names) > 1:
            groups |= {f"{kind}:{name}": [e for e in measurements if getattr(e, kind) == name] for name in names}
    return groups


def _has_unlabelled(families: Mapping[str, Mapping[str, Sequence[Measurement]]]) -> bool:
    return any(each.unlabelled.any() for datasets in families.values() for seeds in datasets.values() for each in seeds)


def save_json(
    path: Path, measurements: Sequence[Measurement], lines: Sequence[Improvement], settings: Mapping[str, object]
) -> None:
    """Rows, tables and settings as one JSON file, whole or not at all. Raises InputError if the disk refuses.

    `table` has the lines over all data sets and all measured queries, `groups` the others.
    """
    records = [{name: getattr(line, name) for name in Improvement.__slots__} for line in lines]
    content = {
        "settings": dict(settings),
        "table": [each for each in records if each["group"] == each["queries"] == ALL],
        "groups": [each for each in records if not each["group"] == each["queries"] == ALL],
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


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table for people."""

    title: str
    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]


def tables(
    lines: Sequence[Improvement], labels: Sequence[int], *, measures: Sequence[str] = MEASURES
) -> list[ReportTable]:
    """Tables of the lines, one column for each number of labels.

    For each skew: every method over frozen by each measure, each of OURS over every other, and over the same search
    without labels on all data sets, on those of each language and of each family.
    """
    made: list[ReportTable] = []
    for skew in dict.fromkeys(line.skew for line in lines):
        of_skew = [line for line in lines if line.skew == skew]
        whole = [line for line in of_skew if line.group == line.queries == ALL]
        suffix = f", skew {skew:g}" if skew else ""
        for name in measures:
            over_frozen = [line for line in whole if (line.over, line.measure) == ("frozen", name)]
            frozen = f" ({over_frozen[0].value - over_frozen[0].mean:.4f})" if over_frozen else ""
            title = f"{name} over frozen{frozen}{suffix}"
            made.append(_by_labels(title, over_frozen, labels, lambda line: line.method))
        for ours in OURS:
            over_others = [line for line in whole if line.method == ours and line.over not in {"frozen", NO_LABELS}]
            made.append(_by_labels(f"nDCG@10 of {ours} over each{suffix}", over_others, labels, lambda line: line.over))
        own = [line for line in of_skew if line.over == NO_LABELS]
        for queries in (ALL, UNLABELLED):
            for kind in (ALL, "language", "family"):
                chosen = [line for line in own if line.queries == queries and line.group.partition(":")[0] == kind]
                title = "nDCG@10 over the same search without labels"
                title += "" if kind == ALL else f", by {kind}"
                title += ", queries not labelled" if queries == UNLABELLED else ""
                made.append(_by_labels(f"{title}{suffix}", chosen, labels, _row_name))
    return [table for table in made if table.body]


def _row_name(line: Improvement) -> str:
    name = line.group.partition(":")[2]
    return f"{line.method}, {name}" if name else line.method


def _by_labels(
    title: str, lines: Sequence[Improvement], labels: Sequence[int], name_of: Callable[[Improvement], str]
) -> ReportTable:
    shown = [number for number in labels if any(line.labels == number for line in lines)]
    cells = {(name_of(line), line.labels): _cell(line) for line in lines}
    names = sorted({name for name, _ in cells}, key=[name for name, _ in cells].index)
    body = tuple((name, *(cells[name, number] for number in shown)) for name in names)
    return ReportTable(title, ("method", *(f"{number} labels" for number in shown)), body)


def _cell(line: Improvement) -> str:
    """The method's own mean; the improvement with its interval; the worst data set; and how many are worse."""
    cell = f"{line.value:.4f}; {line.mean:+.4f} [{line.low:+.4f}, {line.high:+.4f}]"
    if line.domains > 1:
        cell += f"; worst {line.worst:+.3f} {line.worst_domain}"
    return cell if line.worse is None else f"{cell}; worse {len(line.worse)} of {line.tests}"


def save_markdown(path: Path, lines: Sequence[Improvement], labels: Sequence[int]) -> Path:
    """Write `tables` as Markdown."""
    parts = []
    for table in tables(lines, labels):
        head, *body = (f"| {' | '.join(row)} |" for row in (table.head, *table.body))
        parts.append("\n".join([table.title, "", head, "|---" * len(table.head) + "|", *body]))
    _write(path, "\n\n".join(parts) + "\n")
    return path


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): choose another path") from error
