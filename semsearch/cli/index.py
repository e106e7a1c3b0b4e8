"""Commands that build, change and inspect an index: build, update, delete, compact, check, info."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from semsearch.cli.options import Device, Threads, err, out, write_json

if TYPE_CHECKING:
    from semsearch.encoders.runtime import RuntimeChoice
    from semsearch.ingest.readers.files import Record
    from semsearch.ingest.recipe import Recipe, Source
    from semsearch.ingest.updating import UpdateResult
    from semsearch.storage.left_out import LeftOut
    from semsearch.storage.manifest import Manifest

_SOURCE_OPTIONS = {"fields": "--*-field", "types": "--type"}
"""Options for values of `Source` that are not named as they are."""
SHOWN_LEFT_OUT = 20
"""Entries of what was left out that are printed."""

Index = Annotated[Path, typer.Argument(help="Folder of a built index.")]
Strict = Annotated[
    bool | None,
    typer.Option(
        "--strict/--skip-bad",
        help="Stop at the first record or file that cannot be read, or leave out all that cannot, count and list them."
        " \\[default: leave out up to --max-bad-share]",
        show_default=False,
    ),
]
MaxBadShare = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Largest share of the rows of a table, or of the files of a folder, that may be unreadable; more is an"
        " error. 1: any number. \\[default: the recipe's, or 0.1]",
        show_default=False,
    ),
]
IdPrefix = Annotated[
    str | None,
    typer.Option(
        help="Text before the id of every document, so that tables with the same ids can be indexed together."
        " {file} stands for the file's name: --id-prefix '{file}:'",
        show_default=False,
    ),
]
IdField = Annotated[
    str | None, typer.Option(help="Field or column with the document's id. \\[default: id, _id]", show_default=False)
]
TitleField = Annotated[
    str | None, typer.Option(help="Field or column with the title. \\[default: title, name]", show_default=False)
]
TextField = Annotated[
    str | None,
    typer.Option(
        help="Field or column with the text. \\[default: text, content, body, description]", show_default=False
    ),
]
Types = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        metavar="NAME=TYPE",
        help="Type of a metadata field or column: text, number or boolean, as in --type zip=text. Can be repeated."
        " \\[default: those of the file, and of a CSV or TSV column, number or boolean if all its values are]",
        show_default=False,
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option(help="Encoding of texts and tables, such as cp1252. \\[default: utf-8]", show_default=False),
]
Delimiter = Annotated[
    str | None,
    typer.Option(
        help="Character between the columns of a CSV or TSV table, such as ';' or tab. \\[default: the one of , ; | and"
        " tab that fits its first lines]",
        show_default=False,
    ),
]


def build(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Files and folders to index: JSON, JSONL, CSV, TSV, Parquet, Markdown, HTML, PDF, Word, ODT, EPUB,"
            " plain text, also compressed (.gz, .xz, .zst). Or one recipe (.toml), which names the files and settings"
            " of an index."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            envvar="SEMSEARCH_OUT",
            help="Folder to write the index to. \\[default: next to the recipe, with its name]",
            show_default=False,
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            envvar="SEMSEARCH_ENCODER",
            help="Name or folder of a sentence-transformers model. \\[default: the recipe's, or all-MiniLM-L6-v2]",
            show_default=False,
        ),
    ] = None,
    dimension: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Cut vectors to their first numbers, this many, with a model that was trained for it (Matryoshka)."
            " \\[default: the recipe's, or all]",
            show_default=False,
        ),
    ] = None,
    strict: Strict = None,
    max_bad_share: MaxBadShare = None,
    id_prefix: IdPrefix = None,
    id_field: IdField = None,
    title_field: TitleField = None,
    text_field: TextField = None,
    types: Types = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    resume: Annotated[
        bool, typer.Option(help="Reuse the embeddings of an interrupted build of this index, or start over.")
    ] = True,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Build an index from files or from a recipe.

    The new index replaces an existing one only when it is complete, so a build that fails or is killed changes nothing.
    Running the same command again continues an interrupted build.

    Records and files that cannot be read are left out, counted and listed at the end, and later by `semsearch info`.
    It is an error if no document can be read of a file that is named here, or if more than a tenth of a table's rows,
    or of the files of a folder of 20 or more, cannot be read.

    Example: semsearch build docs/ faq.jsonl --out index/help
    """
    fields = {"id": id_field, "title": title_field, "text": text_field}
    options = _source_options(fields, types, id_prefix=id_prefix, encoding=encoding, delimiter=delimiter)
    recipe, folder = _recipe(inputs, output, options)
    given = {"model": encoder, "dimension": dimension}
    chosen = {name: value for name, value in given.items() if value}
    recipe = recipe.model_copy(update={"encoder": recipe.encoder.model_copy(update=chosen)})
    recipe = recipe.with_limits(strict, max_bad_share)
    build_recipe(recipe, folder, resume=resume, device=device, threads=threads)


def update(
    index: Index,
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Files and folders to read, or the recipe (.toml) to read all of its sources."),
    ],
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Delete every document that the inputs do not contain; the inputs must be complete. Documents of files"
            " and folders that cannot be read whole are kept.",
        ),
    ] = False,
    strict: Strict = None,
    max_bad_share: MaxBadShare = None,
    id_prefix: IdPrefix = None,
    id_field: IdField = None,
    title_field: TitleField = None,
    text_field: TextField = None,
    types: Types = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Add documents to an index, and replace those with the same id.

    Documents that did not change are not encoded again, so updating from a whole folder costs only as much as its
    changes. A running server switches to the new state within a second, without losing a request. What cannot be read
    is left out and listed, as by `semsearch build`.

    Example: semsearch update index/help docs/ --prune
    """
    with err.status("starting"):
        from itertools import chain

        from semsearch.ingest.readers.sources import read
        from semsearch.ingest.recipe import Recipe, sources_for
        from semsearch.ingest.updating import UpdateResult
        from semsearch.ingest.updating import update as update_index
        from semsearch.storage.generations import read_manifest

    fields = {"id": id_field, "title": title_field, "text": text_field}
    options = _source_options(fields, types, id_prefix=id_prefix, encoding=encoding, delimiter=delimiter)
    built = Recipe.model_validate(read_manifest(index).recipe)
    if any(path.suffix == ".toml" for path in inputs):
        recipe = _recipe_alone(inputs, options)
        _check_same(index, built, recipe, inputs[0])
        sources: list[tuple[Source, Path | None]] = [(source, None) for source in recipe.sources]
    else:
        recipe = built
        sources = sources_for(built, inputs, options)
    recipe = recipe.with_limits(strict, max_bad_share)
    started = monotonic()
    readings = [read(source, root) for source, root in sources]
    events = update_index(
        index,
        chain.from_iterable(readings),
        prune=prune,
        skip_bad=recipe.skips_bad,
        max_bad_share=recipe.max_bad_share,
        device=device,
        threads=threads,
    )
    last = _consume(events)
    assert isinstance(last, UpdateResult)
    _print_result(last, monotonic() - started)


def delete(
    index: Index,
    doc_ids: Annotated[
        list[str],
        typer.Argument(metavar="IDS...", help="Ids of documents; - reads them from standard input, one per line."),
    ],
) -> None:
    """Delete documents from an index.

    Example: semsearch delete index/help faq-12 faq-13
    """
    from semsearch.ingest.updating import delete as delete_documents

    started = monotonic()
    if doc_ids == ["-"]:
        doc_ids = [line.strip() for line in sys.stdin if line.strip()]
    _print_result(delete_documents(index, doc_ids), monotonic() - started)


def compact(index: Index, device: Device = "auto", threads: Threads = None) -> None:
    """Merge the segments of an index into one and drop deleted documents. Nothing is encoded again.

    It also upgrades an index that an earlier semsearch wrote.

    After many changes an index consists of several segments and still holds its deleted documents, which slows searches
    down. `semsearch info` shows both numbers.
    """
    with err.status("starting"):
        from semsearch.ingest.updating import UpdateResult
        from semsearch.ingest.updating import compact as compact_index

    started = monotonic()
    last = _consume(compact_index(index, device=device, threads=threads))
    assert isinstance(last, UpdateResult)
    _print_result(last, monotonic() - started)


def check(
    index: Index,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")] = False,
) -> None:
    """Verify an index: its checksums, its counts, and that its files match each other.

    Exits with code 1 if it finds a problem.
    """
    from dataclasses import asdict

    from semsearch.storage.checking import check as check_index

    report = check_index(index)
    if as_json:
        write_json(asdict(report))
    else:
        for problem in report.problems:
            out.print(Text.assemble(("wrong: ", "bold red"), problem), soft_wrap=True)
        for note in report.notes:
            out.print(Text.assemble(("note: ", "yellow"), note), soft_wrap=True)
        if not report.problems:
            out.print(
                f"[bold green]sound[/bold green]: {report.documents:,} documents in {report.passages:,} passages,"
                f" {report.files} files with matching checksums"
            )
    if report.problems:
        raise typer.Exit(1)


def _token_vectors(manifest: Manifest) -> str:
    """Describe the token vectors of an index."""
    stored = sum(file.bytes for name, file in manifest.files.items() if name.endswith("/tokens.bin"))
    if not stored:
        return "no token vectors, so no late interaction"
    weight = manifest.search.token_weight
    return f"token vectors, {stored / 2**20:.1f} MiB; late interaction counts {weight:g} in hybrid search"


def info(
    index: Index,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Print an index's encoder, size, settings, sources and domains."""
    from semsearch.storage.domains import DomainStore
    from semsearch.storage.generations import read_manifest

    manifest = read_manifest(index)
    encoder = manifest.encoder
    if as_json:
        write_json(manifest.model_dump(mode="json"), indent=1)
        return
    rows = {
        "title": manifest.title,
        "description": manifest.description,
        "documents": f"{manifest.documents:,} in {manifest.passages:,} passages"
        + (f", {manifest.skipped:,} bad records skipped" if manifest.skipped else ""),
        "encoder": f"{manifest.encoder.name}, {manifest.encoder.dimension} dimensions,"
        f" {manifest.encoder.window} tokens per passage, weights {manifest.encoder.weights_sha256[:12]}…",
        "segments": _segments(manifest),
        "index": manifest.index.type
        + (f", {manifest.index.vectors} vectors" if manifest.index.vectors != "float32" else "")
        + (f", ef_search {manifest.index.ef_search}" if manifest.index.ef_search else "")
        + (f", recall@10 {manifest.index.recall}" if manifest.index.recall else "")
        + (f" ({manifest.index.reason})" if manifest.index.reason else ""),
        "encoder fit": manifest.encoder_fit and str(manifest.encoder_fit),
        "weak match": manifest.weak_similarity and str(manifest.weak_similarity),
        "search": str(manifest.search).replace("auto", f"{manifest.lexical_weight} (auto)"),
        "tokens": _token_vectors(manifest),
        "learners": str(manifest.adaptation),
        "tuned": manifest.tuned
        and f"on {manifest.tuned['queries']} judged queries, {manifest.tuned['gain']:+} nDCG@10",
        "built": f"{manifest.built_at:%Y-%m-%d %H:%M} UTC by semsearch {manifest.built_by}",
        "changed": manifest.changed_at and f"{manifest.changed_at:%Y-%m-%d %H:%M} UTC",
        "size": f"{sum(file.bytes for file in manifest.files.values()) / 2**20:.1f} MiB",
        "recipe": json.dumps(manifest.recipe, ensure_ascii=False),
        "domains": ", ".join(
            DomainStore(index, encoder_sha256=encoder.weights_sha256, dimension=encoder.dimension).names()
        ),
    }
    for name, value in rows.items():
        if value:
            out.print(Text.assemble((f"{name:12}", "bold"), value), soft_wrap=True)
    _print_left_out(out, manifest.left_out)


def _segments(manifest: Manifest) -> str:
    """Describe the later segments and the deleted documents of an index; empty if it has neither."""
    deleted = manifest.deleted
    added = sum(segment.passages - segment.deleted_passages for segment in manifest.segments[1:])
    if not deleted and not added:
        return ""
    text = f"{len(manifest.segments)}, {added:,} passages were added later and {deleted:,} deleted documents are kept"
    worth_compacting = added > manifest.passages / 4 or deleted > manifest.documents / 4
    return text + ("; semsearch compact merges them" if worth_compacting else "")


def _source_options(
    fields: Mapping[str, str | None], types: Sequence[str] | None, **others: str | None
) -> dict[str, object]:
    """Return the values of `Source` that are given as options. Raises typer.BadParameter for one that is wrong.

    fields: field by role. types: each `NAME=TYPE`. others: further values by name.
    """
    from pydantic import ValidationError

    from semsearch.ingest.recipe import Source

    given: dict[str, object] = {name: value for name, value in others.items() if value is not None}
    if given.get("delimiter") in {"tab", "\\t"}:
        given["delimiter"] = "\t"
    if named := {role: (name,) for role, name in fields.items() if name}:
        given["fields"] = named
    if types:
        given["types"] = dict(map(_named_type, types))
    try:
        source = Source.model_validate({"path": ".", **given})
    except ValidationError as error:
        problem = error.errors()[0]
        name, *parts = map(str, problem["loc"])
        option = _SOURCE_OPTIONS.get(name, f"--{name.replace('_', '-')}")
        message = f"{problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}"
        raise typer.BadParameter(": ".join([*parts, message]), param_hint=option) from None
    return {name: getattr(source, name) for name in given}


def _named_type(text: str) -> tuple[str, str]:
    name, equals, field_type = text.rpartition("=")
    if not (name and equals):
        raise typer.BadParameter(f"{text!r} is not NAME=TYPE, as in zip=text", param_hint=_SOURCE_OPTIONS["types"])
    return name, field_type


def _recipe_alone(inputs: list[Path], options: Mapping[str, object]) -> Recipe:
    from semsearch.ingest.recipe import Recipe

    if len(inputs) > 1:
        raise typer.BadParameter(
            "a recipe cannot be combined with other inputs: name the files in it (sources.path)", param_hint="INPUTS"
        )
    for name in options:
        option = _SOURCE_OPTIONS.get(name, f"--{name.replace('_', '-')}")
        raise typer.BadParameter(f"set sources.{name} in the recipe instead", param_hint=option)
    return Recipe.read(inputs[0])


def _recipe(inputs: list[Path], output: Path | None, options: Mapping[str, object]) -> tuple[Recipe, Path]:
    """Return the recipe to build, and the folder of the index."""
    from semsearch.ingest.recipe import Recipe, Source

    if any(path.suffix == ".toml" for path in inputs):
        return _recipe_alone(inputs, options), output or inputs[0].with_suffix("")
    if output is None:
        raise typer.BadParameter("name the folder of the index, for example --out index/mine", param_hint="--out")
    return Recipe(sources=tuple(Source(path=path).model_copy(update=options) for path in inputs)), output


def _check_same(index: Path, built: Recipe, recipe: Recipe, path: Path) -> None:
    """Raise RecipeError if a recipe changes a setting that only a build can change."""
    from semsearch.errors import RecipeError

    for name, old, new in (
        ("encoder", _model(built), _model(recipe)),
        ("chunking", built.chunking.model_dump(), recipe.chunking.model_dump()),
    ):
        if old != new:
            raise RecipeError(
                f"{index} was built with {name} {old}, {path} asks for {new}, which changes every passage: build it"
                f" again with `semsearch build {path} --out {index}`"
            )


def _model(recipe: Recipe) -> dict[str, object]:
    return recipe.encoder.model_dump(exclude={"batch_tokens"})


def _print_result(result: UpdateResult, seconds: float) -> None:
    changes = [
        f"{count:,} {change}"
        for change, count in (
            ("added", result.added),
            ("replaced", result.replaced),
            ("deleted", result.deleted),
            ("unchanged", result.unchanged),
        )
        if count
    ] + ["compacted"] * result.compacted
    _print_left_out(err, result.left_out)
    if result.protected:
        err.print(
            f"kept: {result.protected:,} documents that were not read, because their files could not be read whole",
            soft_wrap=True,
        )
    if result.dropped_ef_search is not None:
        index = result.manifest.index
        measured = f": the measured {index.ef_search} applies" if index.ef_search else ""
        err.print(
            f"search.ef_search = {result.dropped_ef_search} was removed, because the index is now of type"
            f" {index.type}{measured}",
            soft_wrap=True,
        )
    for doc_id in result.unknown:
        err.print(Text.assemble(("no such document: ", "yellow"), doc_id), soft_wrap=True)
    manifest = result.manifest
    err.print(
        f"[bold green]{escape(str(result.folder))}[/bold green]: {', '.join(changes) or 'nothing to change'};"
        f" {manifest.documents:,} documents in {manifest.passages:,} passages, {len(manifest.segments)}"
        f" segment{'s' * (len(manifest.segments) != 1)}, {seconds:.1f} s",
        soft_wrap=True,
    )


def build_recipe(
    recipe: Recipe,
    folder: Path,
    *,
    records: Iterable[Record] | None = None,
    resume: bool = True,
    device: str,
    threads: int | None,
    runtime: RuntimeChoice = "auto",
) -> None:
    """Build an index, with a progress bar. records: those to index instead of the recipe's sources."""
    with err.status("starting"):
        from semsearch.ingest.building import Published
        from semsearch.ingest.building import build as build_index

    started = monotonic()
    last = _consume(
        build_index(recipe, folder, records=records, resume=resume, device=device, threads=threads, runtime=runtime)
    )
    assert isinstance(last, Published)
    manifest = last.manifest
    _print_left_out(err, manifest.left_out)
    skipped = f", {manifest.skipped:,} bad records skipped" if manifest.skipped else ""
    err.print(
        f"[bold green]built[/bold green] {escape(str(last.folder))}:"
        f" {manifest.documents:,} documents in {manifest.passages:,} passages{skipped},"
        f" {monotonic() - started:.0f} s",
        soft_wrap=True,
    )


def _print_left_out(console: Console, left_out: Sequence[LeftOut]) -> None:
    """Print what was left out, with reasons: the first entries, and the counts of all."""
    from semsearch.storage.left_out import summarize

    for entry in left_out[:SHOWN_LEFT_OUT]:
        label = "note: " if entry.kind == "note" else "skipped: "
        console.print(Text.assemble((label, "yellow"), str(entry)), soft_wrap=True)
    if not left_out:
        return
    rest = sum(entry.count for entry in left_out[SHOWN_LEFT_OUT:])
    more = f"; {rest:,} of them are not listed here, but in the index's manifest" if rest else ""
    console.print(Text.assemble(("left out: ", "bold yellow"), f"{summarize(left_out)}{more}"), soft_wrap=True)


def _consume(events: Iterator[object]) -> object:
    """Run a build or a change to its end with a progress bar, and return the last event."""
    from semsearch.ingest.encoding import Resuming

    last: object = None
    for last in _with_progress(events):
        if isinstance(last, Resuming):
            err.print(
                f"[bold]resuming[/bold]: an interrupted build has encoded {last.passages:,} of {last.of_passages:,}"
                " passages",
                soft_wrap=True,
            )
    return last


def _with_progress(events: Iterator[object]) -> Iterator[object]:
    """Yield the events while showing a progress bar."""
    from rich.progress import (
        BarColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from semsearch.cli.progress import ReportingProgress
    from semsearch.ingest.building import LoadingEncoder, ProjectingMap, Reading, Skipped
    from semsearch.ingest.encoding import Encoding
    from semsearch.ingest.inverted_file import LinkingGraph

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    skipped = 0
    with ReportingProgress(*columns, console=err, refresh_per_second=4, transient=True) as progress:
        task = progress.add_task("starting", total=None, counts="")
        for event in events:
            match event:
                case LoadingEncoder(name):
                    progress.update(task, description=f"loading {escape(name)}")
                case Skipped(record):
                    skipped += not record.is_note
                case Reading(documents, passages):
                    bad = f", {skipped:,} skipped" if skipped else ""
                    progress.update(
                        task, description="reading", counts=f"{documents:,} documents, {passages:,} passages{bad}"
                    )
                case Encoding(passages=0, of_tokens=of_tokens):
                    # a new task, so that the remaining time is estimated from encoding alone; counted in tokens,
                    # because long passages come first
                    progress.remove_task(task)
                    task = progress.add_task("encoding", total=of_tokens, counts="")
                case Encoding(passages, of_passages, tokens):
                    elapsed = progress.tasks[-1].elapsed or 0.0
                    rate = f", {passages / elapsed:,.0f}/s" if elapsed else ""
                    progress.update(task, completed=tokens, counts=f"{passages:,} of {of_passages:,} passages{rate}")
                case ProjectingMap(passages):
                    progress.remove_task(task)
                    task = progress.add_task("computing the map", total=None, counts=f"{passages:,} passages")
                case LinkingGraph(rows=0, of_rows=of_rows):
                    progress.remove_task(task)
                    task = progress.add_task("indexing vectors", total=of_rows, counts="")
                case LinkingGraph(rows, of_rows):
                    progress.update(task, completed=rows, counts=f"{rows:,} of {of_rows:,} passages")
            yield event
