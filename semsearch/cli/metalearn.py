"""The commands `semsearch learn` and `semsearch evaluate`."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from semsearch.cli.options import Device, Threads, err, out
from semsearch.cli.progress import ReportingProgress
from semsearch.errors import EncoderError, LabelError

# torch takes seconds to import: each command imports what it needs, so that --help answers at once
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pydantic import JsonValue

    from semsearch.adapters.weights import Weights
    from semsearch.encoders.encoder import Encoder
    from semsearch.evaluation.labelling import LabelSource
    from semsearch.evaluation.token_cache import TokenSource
    from semsearch.metalearn.datasets import LabelledTexts
    from semsearch.metalearn.episodes import Dataset
    from semsearch.metalearn.outer_loop import Step
    from semsearch.metalearn.training import GuardTrial

Number = TypeVar("Number", int, float)

MAX_SKEW = 5
"""Highest Zipf exponent: nearly all searches are then for one query."""

Domains = Annotated[
    list[Path],
    typer.Argument(
        help="Folders in BEIR's layout (corpus.jsonl, queries.jsonl, qrels.tsv), or folders of such folders. "
        "`learn` also takes a folder without qrels.tsv: titles or first sentences become queries for the rest."
    ),
]
EncoderName = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        envvar="SEMSEARCH_ENCODER",
        help="Name or folder of a sentence-transformers model. \\[default: all-MiniLM-L6-v2]",
        show_default=False,
    ),
]
Embeddings = Annotated[
    Path | None,
    typer.Option(
        envvar="SEMSEARCH_EMBEDDINGS",
        help="Folder of NAME.npz with this encoder's vectors, `documents` and `queries`, in the order of the files;"
        " folders without such a file are encoded.",
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        envvar="SEMSEARCH_CACHE",
        help="Folder that caches vectors between runs, by content. \\[default: ~/.cache/semsearch/vectors]",
        show_default=False,
    ),
]


def learn(
    domains: Domains,
    output: Annotated[
        Path,
        typer.Option("--out", "-o", envvar="SEMSEARCH_OUT", help="Weights file to write; with --folds, a folder."),
    ],
    folds: Annotated[
        str | None,
        typer.Option(
            help="Write weights that leave families out, to be evaluated on those: `family` for one file per family, or"
            " a number of groups of families."
        ),
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option(min=0, help="With --folds, learn only this fold, counted from 0: to spread folds over machines."),
    ] = None,
    members: Annotated[
        str, typer.Option(help="Learners to meta-train, separated by commas; the guard needs `listwise`.")
    ] = "listwise",
    steps: Annotated[int, typer.Option(min=1, help="Maximum number of outer-loop steps.")] = 150,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes per step.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and data give the same weights.")] = 0,
    trials: Annotated[
        int, typer.Option(min=1, help="Random halvings of each data set to learn the guard's prior from.")
    ] = 3,
    open_only: Annotated[
        bool, typer.Option("--open-licence", help="Leave out domains that domains.json does not call openly licensed.")
    ] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Folder for checkpoints, removed once the weights are written. \\[default: OUT.checkpoint]",
            show_default=False,
        ),
    ] = None,
    encoder: EncoderName = None,
    embeddings: Embeddings = None,
    cache: Cache = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Meta-train the weights that adaptation starts from, on many labelled data sets.

    An interrupted run resumes from its checkpoint when the command is repeated. Data sets of one family resemble each
    other: name families in a domains.json next to the folders, or as "family" in a folder's meta.json.

    Example: semsearch learn data/domains --out weights.safetensors
    """
    from semsearch.metalearn.outer_loop import OuterLoopSettings
    from semsearch.metalearn.training import remove_checkpoint, train

    names = tuple(name.strip() for name in members.split(",") if name.strip())
    _check_members(names)
    settings = OuterLoopSettings(learners=names, steps=steps, episodes=episodes, seed=seed)
    loaded, about = _load(
        domains,
        encoder=encoder,
        embeddings=embeddings,
        cache=cache,
        device=device,
        threads=threads,
        select=lambda texts: [each for each in texts if each.open_licence or not open_only],
    )
    for path, left_out in _weights_files(loaded, output, folds, fold, seed):
        if left_out:
            err.print(f"[bold]{escape(path.name)}[/bold], without {', '.join(left_out)}", soft_wrap=True)
        notes = (checkpoint or path.with_suffix(".checkpoint")) / (path.stem if checkpoint and left_out else "")
        _train(train(loaded, settings, about=about, left_out=left_out, checkpoint=notes, trial_seeds=trials), path)
        remove_checkpoint(notes)


def _weights_files(
    datasets: Sequence[Dataset], output: Path, folds: str | None, fold: int | None, seed: int
) -> list[tuple[Path, list[str]]]:
    """Return the weights files to write, each with the families that it is learned without.

    folds, fold: the options of `learn`. Raises typer.BadParameter if they are not valid.
    """
    from semsearch.metalearn.training import folds as split

    if folds is None:
        return [(output, [])]
    if folds != "family" and not folds.isdecimal():
        raise typer.BadParameter("give `family` or a number", param_hint="--folds")
    groups = split(datasets, None if folds == "family" else int(folds), seed)
    files = [(output / f"fold-{number}.safetensors", group) for number, group in enumerate(groups)]
    if fold is None:
        return files
    if fold >= len(files):
        raise typer.BadParameter(f"there are {len(files)} folds, counted from 0", param_hint="--fold")
    return [files[fold]]


def _train(events: Iterator[Step | GuardTrial | Weights], path: Path) -> None:
    """Train with a progress bar, and save the weights."""
    from semsearch.adapters.weights import Weights
    from semsearch.metalearn.outer_loop import Step
    from semsearch.metalearn.training import GuardTrial

    with _progress() as progress:
        task = progress.add_task("outer loop", total=None, counts="")
        stage: type | None = None
        for event in events:
            match event:
                case Step(number, of, losses, validation):
                    progress.update(task, completed=number, total=of, counts=_losses(losses))
                    if validation is not None:
                        err.print(f"step {number}: held-out families {_losses(validation)}")
                case GuardTrial(domain, number, of):
                    if stage is not GuardTrial:
                        # a new task, so that the remaining time is estimated from its own rate
                        progress.remove_task(task)
                        task, stage = progress.add_task("trying the guard", total=of, counts=""), GuardTrial
                    progress.update(task, completed=number, total=of, counts=domain)
                case Weights():
                    event.save(path)
    err.print(
        f"[bold green]learned[/bold green] {escape(str(path))}: {path.stat().st_size / 1024:.0f} KiB", soft_wrap=True
    )


def _losses(losses: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in losses.items())


def evaluate(
    domains: Domains,
    labels: Annotated[
        str, typer.Option(help="Numbers of labelled queries to adapt on, separated by commas.")
    ] = "0,8,32,128",
    seeds: Annotated[int, typer.Option(min=1, help="Random halvings of each data set's queries.")] = 5,
    weights: Annotated[
        Path | None,
        typer.Option(
            envvar="SEMSEARCH_WEIGHTS",
            help="Weights file, or a folder written by learn --folds: then each data set is evaluated with the weights"
            " that left its family out. \\[default: the file included in semsearch]",
            show_default=False,
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Separated by commas: semsearch (dense search, adapted), semantic and hybrid (the searches that an"
            " index serves, adapted), bm25 (served keyword search), fused (served hybrid search by reciprocal rank"
            " fusion), unguarded, members (or member:NAME), rocchio, ridge, linear, film-scratch; frozen is always"
            " included. \\[default: all that --labels-from allows]",
            show_default=False,
        ),
    ] = None,
    skew: Annotated[
        str,
        typer.Option(
            help="Zipf exponents, separated by commas. With 0, labelled queries are not measured, and all others count"
            " alike. With s above 0, the query of popularity rank r is asked for with probability ∝ r^−s: queries are"
            " labelled as they are asked, and all are measured, weighted by popularity, labelled ones too."
        ),
    ] = "0",
    labels_from: Annotated[
        str,
        typer.Option(
            help="What is known of a labelled query: all (its judgments), first-results (which of the first ten results"
            " are relevant) or clicks (one click on these by a user with a position bias). The last two are for"
            " semantic and hybrid, which are adapted again after 1, 2, 4, 8, … queries."
        ),
    ] = "all",
    max_queries: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most queries of a data set that are measured; with a skew, the number of searches that are drawn."
            " \\[default: all]",
            show_default=False,
        ),
    ] = None,
    late_interaction: Annotated[
        bool,
        typer.Option(
            help="Measure `hybrid` with token vectors, as an index has them. Those of the"
            " best results are encoded and cached.",
        ),
    ] = True,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write rows, table and settings as JSON.", show_default=False)
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(show_default=False, help="Folder for gain.png, forest.png, chosen.png, table.md.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Data sets evaluated at once, one thread each.")] = 1,
    encoder: EncoderName = None,
    embeddings: Embeddings = None,
    cache: Cache = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Evaluate adaptation on labelled data sets, against other ways to use the same labels.

    Support sets are drawn from one half of a data set's judged queries; nDCG@10, recall@100 and MRR@10 are measured on
    the other half (or as --skew says), by exact search. The tables show means over families with paired bootstrap
    intervals, the worst data set, and how many are significantly worse; with 0 among --labels also improvements over
    the same search without labels, by family and by the "language" in domains.json or meta.json.

    Example: semsearch evaluate data/domains/cisi --labels 0,8,32 --json cisi.json

    Example: semsearch evaluate data/domains --methods semantic,hybrid --skew 0,1 --labels-from clicks
    """
    from semsearch.adapters.weights import DEFAULT_WEIGHTS
    from semsearch.evaluation.plots import check_plots, draw
    from semsearch.evaluation.protocol import Plan, chosen_methods, needs_weights, open_weights, weights_for
    from semsearch.evaluation.protocol import evaluate as run
    from semsearch.evaluation.report import check_folder, save_json, save_markdown, summary, tables

    numbers = _parse_label_numbers(labels)
    opened = open_weights(weights or DEFAULT_WEIGHTS)
    source = _parse_label_source(labels_from)
    names = chosen_methods(None if methods is None else [name.strip() for name in methods.split(",")], source)
    plan = Plan(numbers, seeds, names, _parse_skews(skew), source, max_queries)
    # what is missing is found before hours of encoding
    if plots is not None:
        check_plots(plots)
    if json_out is not None:
        check_folder(json_out.parent)

    def select(texts: Sequence[LabelledTexts]) -> list[LabelledTexts]:
        labelled = [each for each in texts if each.labelled]
        if not labelled:
            raise LabelError(f"none of {len(texts)} data sets has a qrels.tsv: there is nothing to measure")
        for each in labelled:
            weights_for(each, opened)
        return labelled

    def check_dimension(dimension: int) -> None:
        if needs_weights(plan):
            opened[0].check_dimension(dimension)

    loaded, about = _load(
        domains,
        encoder=encoder,
        embeddings=embeddings,
        cache=cache,
        device=device,
        threads=threads,
        select=select,
        check_dimension=check_dimension,
    )
    if late_interaction and "hybrid" in names:
        plan = replace(plan, tokens=_token_source(loaded, encoder, cache=cache, device=device))
    measurements = []
    with _progress() as progress:
        task = progress.add_task("measuring", total=len(loaded), counts="")
        for results in run(loaded, opened, plan, processes=processes):
            measurements += results
            progress.update(task, advance=1, counts=results[0].domain)
    with err.status("computing intervals"):
        lines = summary(measurements)
    for each in tables(lines, numbers, measures=("nDCG@10",)):
        table = Table(*each.head, title=each.title, title_justify="left")
        for row in each.body:
            table.add_row(*(escape(cell.replace("; ", "\n")) for cell in row))
        out.print(table)
    if any(measurement.seen for measurement in measurements):
        err.print("[yellow]the weights were learned on some of these families[/yellow]")
    if json_out is not None:
        settings = {
            **about,
            "labels": numbers,
            "seeds": seeds,
            "methods": names,
            "skew": plan.skews,
            "late_interaction": plan.tokens is not None,
            "labels_from": str(source),
            "max_queries": max_queries,
            "weights": [file.metadata for file in opened],
        }
        save_json(json_out, measurements, lines, settings)
    if plots is not None:
        for path in [*draw(plots, measurements, lines), save_markdown(plots / "table.md", lines, numbers)]:
            err.print(f"written {escape(str(path))}", soft_wrap=True)


def _parse_label_numbers(text: str) -> tuple[int, ...]:
    """Parse --labels: whole numbers separated by commas. Returns them sorted. Raises typer.BadParameter."""
    numbers = _sorted_numbers(text, int, kind="whole numbers", option="--labels")
    if numbers[0] < 0:
        raise typer.BadParameter(f"{numbers[0]} is less than 0", param_hint="--labels")
    return numbers


def _parse_skews(text: str) -> tuple[float, ...]:
    """Parse --skew: numbers separated by commas. Returns them sorted. Raises typer.BadParameter."""
    skews = _sorted_numbers(text, float, kind="numbers", option="--skew")
    for number in skews:
        if not 0 <= number <= MAX_SKEW:
            raise typer.BadParameter(f"{number:g} is not from 0 to {MAX_SKEW}", param_hint="--skew")
    return skews


def _sorted_numbers(text: str, parse: Callable[[str], Number], *, kind: str, option: str) -> tuple[Number, ...]:
    """Parse numbers separated by commas. Returns the distinct ones, sorted. Raises typer.BadParameter."""
    try:
        return tuple(sorted({parse(number) for number in text.split(",")}))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of {kind} separated by commas", param_hint=option) from None


def _parse_label_source(text: str) -> LabelSource:
    """Parse --labels-from. Raises typer.BadParameter."""
    from semsearch.evaluation.labelling import LabelSource

    try:
        return LabelSource(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no source of labels: choose from {', '.join(LabelSource)}", param_hint="--labels-from"
        ) from None


def _check_members(names: tuple[str, ...]) -> None:
    from semsearch.adapters.candidates import CANDIDATES
    from semsearch.adapters.learners import LEARNERS

    unknown = [name for name in names if name not in LEARNERS]
    if unknown:
        raise typer.BadParameter(
            f"no learner is called {unknown[0]!r}: choose from {', '.join(LEARNERS)}", param_hint="--members"
        )
    missing = {candidate.learner for candidate in CANDIDATES} - set(names)
    if missing:
        raise typer.BadParameter(f"the guard needs {', '.join(sorted(missing))}", param_hint="--members")


def _token_source(
    datasets: Sequence[Dataset], encoder: str | None, *, cache: Path | None, device: str
) -> TokenSource | None:
    """Return where token vectors come from; None, with a note, if the encoder has none, or did not make the vectors."""
    from semsearch.encoders.encoder import Encoder as Model
    from semsearch.encoders.locate import DEFAULT_MODEL
    from semsearch.evaluation.token_cache import TokenSource, made_by
    from semsearch.metalearn.episodes import default_cache

    name = encoder or DEFAULT_MODEL
    opened = partial(Model.open, name, device=device, threads=1)
    try:
        model = opened()
        reason = "" if model.has_token_vectors else f"encoder {name} has no token vectors"
        if others := [dataset.name for dataset in datasets if not made_by(model, dataset)]:
            reason = f"the vectors of {', '.join(others)} are not by encoder {name} (--encoder)"
    except EncoderError as error:
        # given vectors can be measured without their encoder
        reason = str(error)
    if reason:
        err.print(f"[yellow]{escape(reason)}: hybrid is measured without late interaction[/yellow]", soft_wrap=True)
        return None
    return TokenSource(opened, cache or default_cache())


def _load(
    folders: Sequence[Path],
    *,
    encoder: str | None,
    embeddings: Path | None,
    cache: Path | None,
    device: str,
    threads: int | None,
    select: Callable[[Sequence[LabelledTexts]], Sequence[LabelledTexts]],
    check_dimension: Callable[[int], None] = lambda _: None,
) -> tuple[list[Dataset], dict[str, JsonValue]]:
    """Return the data sets in the folders with their vectors, and the encoder's settings for the output files.

    select: returns those to encode, once all are read. check_dimension: called with the dimension of the vectors before
    anything is encoded.
    """
    with err.status("starting"):
        from semsearch.encoders.encoder import Encoder as Model
        from semsearch.encoders.locate import DEFAULT_MODEL
        from semsearch.metalearn.datasets import find_datasets, read_texts
        from semsearch.metalearn.episodes import Vectorizer, default_cache
        from semsearch.system.threads import available_cores, limit_threads

    limit_threads(threads or available_cores())
    name = encoder or DEFAULT_MODEL

    @lru_cache(maxsize=1)
    def opened() -> Encoder:
        model = Model.open(name, device=device, threads=threads)
        check_dimension(model.dimension)
        return model

    with err.status("reading the data sets"):
        folder_of = {folder.name: folder for folder in find_datasets(folders)}
        texts = select([read_texts(folder) for folder in folder_of.values()])
    vectors = Vectorizer(opened, name, cache or default_cache(), embeddings)
    loaded = []
    with _progress() as progress:
        task = progress.add_task("vectors", total=len(texts), counts="")
        for each in texts:
            progress.update(task, counts=each.name)
            loaded.append(vectors.vectorize(each, folder_of[each.name]))
            check_dimension(loaded[-1].documents.shape[1])
            progress.update(task, advance=1)
    return loaded, {"encoder": name}


def _progress() -> ReportingProgress:
    return ReportingProgress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} {task.fields[counts]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
        refresh_per_second=4,
        transient=True,
    )
