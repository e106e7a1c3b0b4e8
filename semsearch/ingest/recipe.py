"""The recipe of an index: what to index and how, in one TOML file. Does not depend on readers or encoding.

title = "Support articles"
strict = false

[encoder]
model = "all-MiniLM-L6-v2"

[search]
mode = "hybrid"

[[sources]]
path = "../articles"
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from semsearch.encoders.locate import DEFAULT_MODEL, ModelLocation, absolute_name
from semsearch.errors import RecipeError
from semsearch.storage.manifest import AdaptationOptions, SearchOptions
from semsearch.system.files import atomic_write

DEFAULT_MAX_BAD_SHARE = 0.1
"""More than this share of the rows of a table, or of the files of a folder, that cannot be read ends a build."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


MAX_AUTO_TOKEN_BYTES = 2**30
"""Most bytes of token vectors that are stored without being asked for: some 100,000 passages of 110 tokens."""


class EncoderOptions(_Section):
    """The model that encodes texts, and its prompts."""

    model: str = Field(DEFAULT_MODEL, description="Name or folder of a sentence-transformers model")
    query_prompt: str | None = Field(None, description="Prefix of every query; by default the model's own")
    document_prompt: str | None = Field(None, description="Prefix of every passage; by default the model's own")
    dimension: int | None = Field(
        None,
        ge=2,
        description="Vectors are cut to their first numbers, this many; for a model that was trained for it"
        " (Matryoshka). By default they are not cut",
    )
    token_vectors: bool | Literal["auto"] = Field(
        "auto",
        description="Store the vectors of each passage's tokens too, with which hybrid search compares the best results"
        " token by token (late interaction); auto: if the encoder's vectors are means of token vectors and they take at"
        f" most {MAX_AUTO_TOKEN_BYTES // 2**30} GiB",
    )
    batch_tokens: int | None = Field(
        None, ge=1, description="Tokens of a batch of passages; by default chosen for the device"
    )

    @property
    def prompts(self) -> dict[str, str]:
        """The prompts that are set here."""
        given = {"query": self.query_prompt, "document": self.document_prompt}
        return {kind: prompt for kind, prompt in given.items() if prompt is not None}


class ChunkingOptions(_Section):
    """How long texts are cut into passages."""

    max_tokens: int | None = Field(None, ge=16, description="Tokens of a passage; by default the encoder's window")
    overlap_tokens: int = Field(
        32, ge=0, description="Largest number of tokens repeated at the start of the next passage"
    )


class IndexOptions(_Section):
    """How the nearest vectors are found."""

    type: Literal["auto", "exact", "hnsw", "ivf"] = Field(
        "auto",
        description="exact compares every vector, hnsw searches a graph, ivf an inverted file over vectors on disk;"
        " auto: ivf if vectors and graph do not fit memory, else exact if that is fast enough, else hnsw, or ivf if"
        " no graph reaches the recall",
    )
    vectors: Literal["auto", "float32", "float16", "int8"] = Field(
        "auto",
        description="Precision of the vectors; auto: float32, or the highest that `memory_mib` allows; of ivf, float16",
    )
    memory_mib: float | None = Field(
        None,
        gt=0,
        description="Memory limit of vectors and graph, in MiB, or of the lists of ivf; by default, type auto takes"
        " half of the machine's memory for vectors and graph",
    )
    exact_ms: float = Field(
        3.0, ge=0, description="auto: largest time of an exact search for one query, in milliseconds"
    )
    recall: float = Field(
        0.98, gt=0, le=1, description="Lowest recall@10 against exact search; an index below it is not published"
    )


class FieldNames(_Section):
    """Names of the fields that hold a record's id, title and text; the first that a record has is taken."""

    id: tuple[str, ...] = ("id", "_id")
    title: tuple[str, ...] = ("title", "name")
    text: tuple[str, ...] = Field(
        ("text", "content", "body", "description"),
        description="If set, the texts of all of these fields are joined in this order",
    )
    join_text: bool | None = Field(
        None, description="Whether the texts of all fields of `text` are joined; by default if it is set"
    )

    @field_validator("id", "title", "text", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @property
    def titles(self) -> tuple[str, ...]:
        """Fields of a title: those of a `text` that is set are left out, unless `title` is set too."""
        texts = self.text if "text" in self.model_fields_set and "title" not in self.model_fields_set else ()
        return tuple(name for name in self.title if name not in texts)

    @property
    def joined(self) -> bool:
        """Whether all text fields are joined, or the first one is taken."""
        return "text" in self.model_fields_set if self.join_text is None else self.join_text


FieldType: TypeAlias = Literal["text", "number", "boolean"]


class Source(_Section):
    """Documents to read: a path, or the standard library of the running Python."""

    path: Path | None = Field(None, description="A file or a folder; relative to the recipe")
    python: Literal["stdlib"] | None = Field(None, description="Documentation of the running Python")
    include: tuple[str, ...] = Field(
        (), description="In a folder, only file names that match one of these patterns, such as *.md"
    )
    exclude: tuple[str, ...] = Field((), description="In a folder, no file names that match one of these patterns")
    encoding: str = "utf-8"
    delimiter: str | None = Field(
        None,
        min_length=1,
        max_length=1,
        pattern=r"""[^"\r\n]""",
        description="Character between the columns of a CSV or TSV table; by default the one of , ; | and tab that fits"
        " its first lines",
    )
    fields: FieldNames = FieldNames()
    types: Mapping[str, FieldType] = Field(
        {},
        description="Types of metadata fields, such as year = 'number'; by default those of the file, and for a column"
        " of a CSV or TSV table, number or boolean if all its values are",
    )
    id_prefix: str = Field(
        "",
        description="Text before the ids of the source's documents, so that they differ from those of other sources;"
        " {file} stands for the file's name, and leaves ids that begin with it unchanged",
    )

    def prefixed_id(self, doc_id: str, *, file: str) -> str:
        """Return the id with `id_prefix`. file: the file's name, as the document's `source` has it."""
        if "{file}" in self.id_prefix and doc_id.startswith(file):
            return doc_id
        return self.id_prefix.replace("{file}", file) + doc_id

    @model_validator(mode="after")
    def _path_or_python(self) -> Source:
        if (self.path is None) == (self.python is None):
            raise ValueError('a source is either a path or python = "stdlib"')
        return self

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str) -> str:
        try:
            "".encode(name)
        except LookupError:
            raise ValueError(f"encoding {name!r} is unknown: give one of Python's, such as cp1252") from None
        return name


class Recipe(_Section):
    """All options of an index."""

    title: str = Field("", description="Title of the search page; by default the index's name")
    description: str = ""
    facets: tuple[str, ...] = Field(
        (), max_length=10, description="Metadata fields whose values the page offers as filters"
    )
    examples: tuple[str, ...] = Field((), max_length=10, description="Queries that the page's first view offers")
    map: bool = Field(True, description="Whether to compute a map of the passages for the page")
    strict: bool = Field(False, description="Stop at the first record or file that cannot be read")
    skip_bad: bool | None = Field(
        None,
        description="true: leave out what cannot be read, however much; false: the same as strict = true; by default,"
        " up to `max_bad_share`",
    )
    max_bad_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Largest share of a table's rows, or of a folder's files, that may be unreadable; 1: any",
    )
    encoder: EncoderOptions = EncoderOptions()
    chunking: ChunkingOptions = ChunkingOptions()
    index: IndexOptions = IndexOptions()
    search: SearchOptions = SearchOptions()
    adaptation: AdaptationOptions = AdaptationOptions()
    sources: tuple[Source, ...] = Field(
        (), description="Where to read documents; empty for documents that a program passes"
    )

    def with_limits(self, strict: bool | None, max_bad_share: float | None) -> Recipe:
        """Return the recipe with other limits of bad records; None keeps its own."""
        given: dict[str, object] = {} if strict is None else {"strict": strict, "skip_bad": not strict}
        if max_bad_share is not None:
            given["max_bad_share"] = max_bad_share
        return self.model_copy(update=given)

    @property
    def skips_bad(self) -> bool | None:
        """Whether bad records are left out: always, never, or, if None, up to `max_bad_share`."""
        return False if self.strict else self.skip_bad

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a recipe from a TOML file; relative paths are resolved against the file's folder.

        Raises RecipeError naming the file and the field.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RecipeError(f"no recipe at {path}") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise RecipeError(f"{path} is not a recipe: {error}") from error
        try:
            _RecipeFile.model_validate(values)
            recipe = cls.model_validate(values)
        except ValidationError as error:
            problems = error.errors(include_input=False, include_url=False)
            texts = (f"{'.'.join(map(str, item['loc'])) or 'recipe'}: {item['msg']}" for item in problems)
            raise RecipeError(f"{path}: {'; '.join(texts)}") from None
        sources = tuple(
            source.model_copy(update={"path": path.parent / source.path}) if source.path else source
            for source in recipe.sources
        )
        encoder, folder = recipe.encoder, str(path.parent / recipe.encoder.model)
        if ModelLocation(folder).is_folder:
            encoder = encoder.model_copy(update={"model": str(Path(folder).resolve())})
        return recipe.model_copy(update={"sources": sources, "encoder": encoder})

    def located(self) -> Recipe:
        """The same recipe with absolute paths."""
        sources = [
            source if source.path is None else source.model_copy(update={"path": source.path.resolve()})
            for source in self.sources
        ]
        encoder = self.encoder.model_copy(update={"model": absolute_name(self.encoder.model)})
        return self.model_copy(update={"sources": tuple(sources), "encoder": encoder})


class _RecipeFile(Recipe):
    """A recipe in a file, which must have sources."""

    sources: tuple[Source, ...] = Field(min_length=1)


def sources_for(
    recipe: Recipe, paths: Sequence[Path], options: Mapping[str, object]
) -> list[tuple[Source, Path | None]]:
    """Return the source of each path, with the `root` that `readers.sources.read` takes.

    A path within a source of the recipe is read with that source's options, and its documents are named relative to it.
    Other paths are read with default options. options: values of `Source` that replace those of all, by name.
    """
    sources: list[tuple[Source, Path | None]] = []
    for path in (path.resolve() for path in paths):
        source, root = Source(path=path), None
        for candidate in recipe.sources:
            if candidate.path is not None and path.is_relative_to(candidate.path.resolve()):
                source, root = candidate, candidate.path.resolve()
                break
        sources.append((source.model_copy(update={**options, "path": path}), root))
    return sources


def write_options(path: Path, search: SearchOptions, adaptation: AdaptationOptions, *, comments: Sequence[str]) -> None:
    """Replace [search] and [adaptation] of the recipe in a file; the rest stays unchanged, with its comments.

    comments: lines added to [search]. Raises RecipeError if the file is not a recipe or cannot be written.
    """
    Recipe.read(path)
    content = tomlkit.parse(path.read_text(encoding="utf-8"))
    for name, options in (("search", search), ("adaptation", adaptation)):
        table = tomlkit.table()
        if name == "search":
            for line in comments:
                table.add(tomlkit.comment(line))
        for key, value in options.model_dump(mode="json", exclude_none=True).items():
            table.add(key, value)
        content.pop(name, None)
        if len(table):
            content.add(name, table)
    try:
        with atomic_write(path) as unfinished:
            unfinished.write_text(tomlkit.dumps(content), encoding="utf-8")
            Recipe.read(unfinished)
    except OSError as error:
        raise RecipeError(f"{path} cannot be written ({error.strerror}): set its options by hand") from error
