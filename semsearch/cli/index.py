"""Commands that make and change an index: build, update, delete, compact, check, info."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.text import Text

from semsearch.cli.options import Device, Threads, err, out

if TYPE_CHECKING:
    from semsearch.ingest.recipe import FieldNames, Recipe, Source
    from semsearch.ingest.updating import UpdateResult
    from semsearch.storage.manifest import Manifest

Index = Annotated[Path, typer.Argument(help="Folder of a built index.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave bad records out and list them, instead of stopping.")]
IdField = Annotated[
    str | None, typer.Option(help="Field or column that holds the id. \\[default: id, _id]", show_default=False)
]
TitleField = Annotated[
    str | None, typer.Option(help="Field that holds the title. \\[default: title, name]", show_default=False)
]
TextField = Annotated[
    str | None,
    typer.Option(help="Field that holds the text. \\[default: text, content, body, description]", show_default=False),
]


def build(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="A recipe (.toml), or files and folders: JSONL, CSV, TSV, Parquet, Markdown, HTML, PDF, Word, EPUB,"
            " plain text, also packed (.gz, .xz, .zst)."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            envvar="SEMSEARCH_OUT",
            help="Folder of the index. \\[default: beside the recipe]",
            show_default=False,
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            envvar="SEMSEARCH_ENCODER",
            help="Name or folder of a sentence-transformers model. \\[default: the recipe's, else all-MiniLM-L6-v2]",
            show_default=False,
        ),
    ] = None,
    skip_bad: SkipBad = False,
    id_field: IdField = None,
    title_field: TitleField = None,
    text_field: TextField = None,
    resume: Annotated[
        bool, typer.Option(help="Take up what a build of this index that was stopped has encoded already.")
    ] = True,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Build an index from a recipe or from files.

    The index appears whole or not at all: one that was there before serves until the new one is complete, also when
    the build fails or is killed. The same command again goes on where a build was stopped.

    Example: semsearch build docs/ faq.jsonl --out index/help
    """
    recipe, folder = _recipe(inputs, output, _named_fields(id=id_field, title=title_field, text=text_field))
    if encoder:
        recipe = recipe.model_copy(update={"encoder": recipe.encoder.model_copy(update={"model": encoder})})
    if skip_bad:
        recipe = recipe.model_copy(update={"skip_bad": True})
    build_recipe(recipe, folder, resume=resume, device=device, threads=threads)


def update(
    index: Index,
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Files and folders to read, or the recipe (.toml) for all of its sources."),
    ],
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete all documents that are not in what is read: name everything.")
    ] = False,
    skip_bad: SkipBad = False,
    id_field: IdField = None,
    title_field: TitleField = None,
    text_field: TextField = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Add documents to an index, and replace those whose id it has.

    Documents that are the same as before are left alone, so that reading a whole folder again costs as much as what
    changed in it. Whoever serves the index moves to the new state within a second, and loses no request.

    Example: semsearch update index/help docs/ --prune
    """
    with err.status("starting"):
        from itertools import chain

        from semsearch.ingest.readers.sources import read
        from semsearch.ingest.recipe import Recipe, sources_for
        from semsearch.ingest.updating import UpdateResult
        from semsearch.ingest.updating import update as update_index
        from semsearch.storage.generations import read_manifest

    named = _named_fields(id=id_field, title=title_field, text=text_field)
    built = Recipe.model_validate(read_manifest(index).recipe)
    if any(path.suffix == ".toml" for path in inputs):
        recipe = _recipe_alone(inputs, named)
        _check_same(index, built, recipe, inputs[0])
        sources: list[tuple[Source, Path | None]] = [(source, None) for source in recipe.sources]
        skip_bad = skip_bad or recipe.skip_bad
    else:
        sources = sources_for(built, inputs, named)
    started = monotonic()
    readings = [read(source, root) for source, root in sources]
    events = update_index(
        index, chain.from_iterable(readings), prune=prune, skip_bad=skip_bad, device=device, threads=threads
    )
    last = _followed(events)
    assert isinstance(last, UpdateResult)
    _print_changed(last, monotonic() - started)


def delete(
    index: Index,
    identities: Annotated[list[str], typer.Argument(metavar="IDS...", help="Ids of documents; - reads one a line.")],
) -> None:
    """Delete documents from an index.

    Example: semsearch delete index/help faq-12 faq-13
    """
    from semsearch.ingest.updating import delete as delete_documents

    started = monotonic()
    if identities == ["-"]:
        identities = [line.strip() for line in sys.stdin if line.strip()]
    _print_changed(delete_documents(index, identities), monotonic() - started)


def compact(index: Index, device: Device = "auto", threads: Threads = None) -> None:
    """Write an index as one piece again, without what was deleted; nothing is encoded anew.

    After many changes a search looks at several pieces, and at what was deleted. semsearch info tells how many.
    """
    with err.status("starting"):
        from semsearch.ingest.updating import UpdateResult
        from semsearch.ingest.updating import compact as compact_index

    started = monotonic()
    last = _followed(compact_index(index, device=device, threads=threads))
    assert isinstance(last, UpdateResult)
    _print_changed(last, monotonic() - started)


def check(
    index: Index,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """Look at everything in an index: checksums, counts, and whether its parts fit one another.

    Exit code 1 if something is wrong.
    """
    from dataclasses import asdict

    from semsearch.storage.checking import check as check_index

    found = check_index(index)
    if as_json:
        sys.stdout.write(json.dumps(asdict(found), ensure_ascii=False) + "\n")
    else:
        for problem in found.problems:
            out.print(Text.assemble(("wrong: ", "bold red"), problem), soft_wrap=True)
        for note in found.notes:
            out.print(Text.assemble(("note: ", "yellow"), note), soft_wrap=True)
        if not found.problems:
            out.print(
                f"[bold green]sound[/bold green]: {found.documents:,} documents in {found.passages:,} passages,"
                f" {found.files} files as they were written"
            )
    if found.problems:
        raise typer.Exit(1)


def info(
    index: Index,
    as_json: Annotated[bool, typer.Option("--json", help="The manifest as it is on disk.")] = False,
) -> None:
    """Show what an index is: its encoder, its size, when and from what it was built."""
    from semsearch.storage.domains import DomainStore
    from semsearch.storage.generations import read_manifest

    manifest = read_manifest(index)
    if as_json:
        sys.stdout.write(manifest.model_dump_json(indent=1) + "\n")
        return
    rows = {
        "title": manifest.title,
        "description": manifest.description,
        "documents": f"{manifest.documents:,} in {manifest.passages:,} passages"
        + (f", {manifest.skipped:,} bad records left out" if manifest.skipped else ""),
        "encoder": f"{manifest.encoder.name}, {manifest.encoder.dimension} dimensions,"
        f" {manifest.encoder.window} tokens a passage, weights {manifest.encoder.weights_sha256[:12]}…",
        "segments": _segments(manifest),
        "index": manifest.index.type
        + (f", {manifest.index.vectors} vectors" if manifest.index.vectors != "float32" else "")
        + (f", {manifest.index.ef_search} candidates" if manifest.index.ef_search else "")
        + (f", recall@10 {manifest.index.recall}" if manifest.index.recall else "")
        + (f" ({manifest.index.reason})" if manifest.index.reason else ""),
        "search": str(manifest.search),
        "learners": str(manifest.adaptation),
        "tuned": manifest.tuned
        and f"on {manifest.tuned['queries']} judged queries, {manifest.tuned['gain']:+} nDCG@10",
        "built": f"{manifest.built_at:%Y-%m-%d %H:%M} UTC by semsearch {manifest.built_by}",
        "changed": manifest.changed_at and f"{manifest.changed_at:%Y-%m-%d %H:%M} UTC",
        "size": f"{sum(file.bytes for file in manifest.files.values()) / 2**20:.1f} MiB",
        "recipe": json.dumps(manifest.recipe, ensure_ascii=False),
        "domains": ", ".join(DomainStore(index, encoder_sha256=manifest.encoder.weights_sha256).names()),
    }
    for name, value in rows.items():
        if value:
            out.print(Text.assemble((f"{name:12}", "bold"), value), soft_wrap=True)


def _segments(manifest: Manifest) -> str:
    """How much of an index is not in one piece."""
    gone = manifest.deleted
    later = sum(one.passages - one.deleted_passages for one in manifest.segments[1:])
    if not gone and not later:
        return ""
    words = f"{len(manifest.segments)}, {later:,} passages were added later and {gone:,} deleted documents are kept"
    heavy = later > manifest.passages / 4 or gone > manifest.documents / 4
    return words + ("; semsearch compact makes it one" if heavy else "")


def _named_fields(**fields: str | None) -> FieldNames | None:
    """What --*-field say; None where they say nothing."""
    from semsearch.ingest.recipe import FieldNames

    named = {meaning: (name,) for meaning, name in fields.items() if name}
    return FieldNames.model_validate(named) if named else None


def _recipe_alone(inputs: list[Path], named: FieldNames | None) -> Recipe:
    from semsearch.ingest.recipe import Recipe

    if len(inputs) > 1:
        raise typer.BadParameter("a recipe stands alone: name the files in it (sources.path)", param_hint="INPUTS")
    if named:
        raise typer.BadParameter("a recipe names its fields itself (sources.fields)", param_hint="--*-field")
    return Recipe.read(inputs[0])


def _recipe(inputs: list[Path], output: Path | None, named: FieldNames | None) -> tuple[Recipe, Path]:
    """What is to be built, and where."""
    from semsearch.ingest.recipe import FieldNames, Recipe, Source

    if any(path.suffix == ".toml" for path in inputs):
        return _recipe_alone(inputs, named), output or inputs[0].with_suffix("")
    if output is None:
        raise typer.BadParameter("say where the index goes, for example --out index/mine", param_hint="--out")
    sources = tuple(Source(path=path, fields=named or FieldNames()) for path in inputs)
    return Recipe(sources=sources), output


def _check_same(index: Path, built: Recipe, recipe: Recipe, path: Path) -> None:
    """Raise RecipeError where a recipe asks for what only a build can do."""
    from semsearch.errors import RecipeError

    for name, was, is_now in (
        ("encoder", _model(built), _model(recipe)),
        ("chunking", built.chunking.model_dump(), recipe.chunking.model_dump()),
    ):
        if was != is_now:
            raise RecipeError(
                f"{index} was built with {name} {was}, {path} asks for {is_now}: every passage changes with it; build"
                f" it again with `semsearch build {path} --out {index}`"
            )


def _model(recipe: Recipe) -> dict[str, object]:
    return recipe.encoder.model_dump(exclude={"batch_tokens"})


def _print_changed(event: UpdateResult, seconds: float) -> None:
    done = [
        f"{count:,} {what}"
        for what, count in (
            ("added", event.added),
            ("replaced", event.replaced),
            ("deleted", event.deleted),
            ("unchanged", event.unchanged),
        )
        if count
    ] + ["made one piece"] * event.compacted
    for identity in event.unknown:
        err.print(Text.assemble(("not there: ", "yellow"), identity), soft_wrap=True)
    manifest = event.manifest
    err.print(
        f"[bold green]{escape(str(event.folder))}[/bold green]: {', '.join(done) or 'nothing to change'};"
        f" {manifest.documents:,} documents in {manifest.passages:,} passages, {len(manifest.segments)}"
        f" segment{'s' * (len(manifest.segments) != 1)}, {seconds:.1f} s",
        soft_wrap=True,
    )


def build_recipe(recipe: Recipe, folder: Path, *, resume: bool = True, device: str, threads: int | None) -> None:
    """Build an index, with a progress bar."""
    with err.status("starting"):
        from semsearch.ingest.building import Published
        from semsearch.ingest.building import build as build_index

    started = monotonic()
    last = _followed(build_index(recipe, folder, resume=resume, device=device, threads=threads))
    assert isinstance(last, Published)
    manifest = last.manifest
    left_out = f", {manifest.skipped:,} bad records left out" if manifest.skipped else ""
    err.print(
        f"[bold green]built[/bold green] {escape(str(last.folder))}:"
        f" {manifest.documents:,} documents in {manifest.passages:,} passages{left_out},"
        f" {monotonic() - started:.0f} s",
        soft_wrap=True,
    )


def _followed(events: Iterator[object]) -> object:
    """The last of the events of a build or a change, the others told as they come."""
    from semsearch.ingest.building import Skipped
    from semsearch.ingest.encoding import Resuming

    last: object = None
    for last in _shown(events):
        if isinstance(last, Skipped):
            err.print(Text.assemble(("left out: ", "yellow"), str(last.record)), soft_wrap=True)
        elif isinstance(last, Resuming):
            err.print(
                f"[bold]resuming[/bold]: {last.passages:,} of {last.of_passages:,} passages were encoded before a build"
                " was stopped",
                soft_wrap=True,
            )
    return last


def _shown(events: Iterator[object]) -> Iterator[object]:
    """The same events, with a progress bar around them."""
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from semsearch.ingest.building import LoadingEncoder, ProjectingMap, Reading
    from semsearch.ingest.encoding import Encoding
    from semsearch.ingest.index_selection import LinkingGraph

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, refresh_per_second=4, transient=True) as progress:
        task = progress.add_task("starting", total=None, counts="")
        for event in events:
            match event:
                case LoadingEncoder(name):
                    progress.update(task, description=f"loading {escape(name)}")
                case Reading(documents, passages):
                    progress.update(
                        task, description="reading", counts=f"{documents:,} documents, {passages:,} passages"
                    )
                case Encoding(passages=0, of_tokens=of_tokens):
                    # a new task: the time left is judged by encoding alone, and by tokens, since long ones come first
                    progress.remove_task(task)
                    task = progress.add_task("encoding", total=of_tokens, counts="")
                case Encoding(passages, of_passages, tokens):
                    elapsed = progress.tasks[-1].elapsed or 0.0
                    rate = f", {passages / elapsed:,.0f}/s" if elapsed else ""
                    progress.update(task, completed=tokens, counts=f"{passages:,} of {of_passages:,} passages{rate}")
                case ProjectingMap(passages):
                    progress.remove_task(task)
                    task = progress.add_task("drawing the map", total=None, counts=f"{passages:,} passages")
                case LinkingGraph(rows=0, of_rows=of_rows):
                    progress.remove_task(task)
                    task = progress.add_task("linking neighbours", total=of_rows, counts="")
                case LinkingGraph(rows, of_rows):
                    progress.update(task, completed=rows, counts=f"{rows:,} of {of_rows:,} passages")
            yield event
