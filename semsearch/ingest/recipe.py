"""What to index and how, as one TOML file. Does not depend on reading or encoding.

title = "Support articles"
skip_bad = false

[encoder]
model = "all-MiniLM-L6-v2"

[search]
mode = "hybrid"

[[sources]]
path = "../articles"
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from semsearch.encoders.locate import DEFAULT_MODEL
from semsearch.errors import RecipeError
from semsearch.storage.manifest import AdaptationOptions, SearchOptions
from semsearch.system.files import atomic_write


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EncoderOptions(_Part):
    """Which model turns texts into vectors."""

    model: str = Field(DEFAULT_MODEL, description="Name or folder of a sentence-transformers model")
    query_prompt: str | None = Field(None, description="Stands before every query; by default the model's own")
    document_prompt: str | None = Field(None, description="Stands before every passage; by default the model's own")
    batch_tokens: int | None = Field(
        None, ge=1, description="Tokens of passages encoded together; by default what suits the device"
    )

    @property
    def prompts(self) -> dict[str, str]:
        """The prompts that are set here."""
        given = {"query": self.query_prompt, "document": self.document_prompt}
        return {kind: prompt for kind, prompt in given.items() if prompt is not None}


class ChunkingOptions(_Part):
    """How long texts are cut."""

    max_tokens: int | None = Field(None, ge=16, description="Of one passage; by default the encoder's window")
    overlap_tokens: int = Field(32, ge=0, description="Repeated at the start of the next passage, at most")


class IndexOptions(_Part):
    """How nearest vectors are to be found."""

    type: Literal["auto", "exact", "hnsw"] = Field(
        "auto", description="exact compares every vector, hnsw follows a graph; auto: exact while that is quick enough"
    )
    vectors: Literal["auto", "float32", "float16", "int8"] = Field(
        "auto", description="How their numbers are kept; auto: as float32, or as exactly as `memory_mib` allows"
    )
    memory_mib: float | None = Field(None, gt=0, description="What vectors and graph may take, at most")
    exact_ms: float = Field(3.0, ge=0, description="auto: what comparing every vector may take for one query, at most")
    recall: float = Field(0.98, gt=0, le=1, description="recall@10 against exact below which nothing is published")


class FieldNames(_Part):
    """Which fields of a record mean what; of ids and titles the first that a record has is taken."""

    id: tuple[str, ...] = ("id", "_id")
    title: tuple[str, ...] = ("title", "name")
    text: tuple[str, ...] = Field(
        ("text", "content", "body", "description"),
        description="Where they are named, all that are there, in this order",
    )
    join_text: bool | None = Field(None, description="Whether all of `text` are taken; by default where it is named")

    @field_validator("id", "title", "text", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @property
    def titles(self) -> tuple[str, ...]:
        """The fields of a title: what is named as text is none, unless it is named as title too."""
        named = self.text if "text" in self.model_fields_set and "title" not in self.model_fields_set else ()
        return tuple(name for name in self.title if name not in named)

    @property
    def joined(self) -> bool:
        """Whether all of the fields of a text are taken, or the first that is there."""
        return "text" in self.model_fields_set if self.join_text is None else self.join_text


class Source(_Part):
    """One place to read from: a path, or the library of the Python that runs the build."""

    path: Path | None = Field(None, description="A file or a folder; relative to the recipe")
    python: Literal["stdlib"] | None = Field(None, description="Documentation of the running Python")
    include: tuple[str, ...] = Field((), description="In a folder, only names like these: *.md")
    exclude: tuple[str, ...] = Field((), description="In a folder, no names like these")
    encoding: str = "utf-8"
    fields: FieldNames = FieldNames()

    @model_validator(mode="after")
    def _one_place(self) -> Source:
        if (self.path is None) == (self.python is None):
            raise ValueError('a source is either a path or python = "stdlib"')
        try:
            "".encode(self.encoding)
        except LookupError:
            raise ValueError(f"encoding {self.encoding!r} is unknown") from None
        return self


class Recipe(_Part):
    """Everything that decides what an index holds."""

    title: str = Field("", description="Shown above the page; by default the index's name")
    description: str = ""
    facets: tuple[str, ...] = Field((), max_length=10, description="Metadata whose values the page counts and offers")
    map: bool = Field(True, description="Whether a map of the passages is drawn, for the page")
    skip_bad: bool = Field(False, description="Leave bad records out and go on, instead of stopping")
    encoder: EncoderOptions = EncoderOptions()
    chunking: ChunkingOptions = ChunkingOptions()
    index: IndexOptions = IndexOptions()
    search: SearchOptions = SearchOptions()
    adaptation: AdaptationOptions = AdaptationOptions()
    sources: tuple[Source, ...] = Field((), description="What to read; none for documents that a program gives")

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """The recipe in a TOML file, its relative paths resolved against the file's folder.

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
            places = (f"{'.'.join(str(part) for part in one['loc']) or 'recipe'}: {one['msg']}" for one in problems)
            raise RecipeError(f"{path}: {'; '.join(places)}") from None
        sources = tuple(
            source.model_copy(update={"path": path.parent / source.path}) if source.path else source
            for source in recipe.sources
        )
        model = path.parent / recipe.encoder.model
        encoder = (
            recipe.encoder.model_copy(update={"model": str(model.resolve())}) if model.is_dir() else recipe.encoder
        )
        return recipe.model_copy(update={"sources": sources, "encoder": encoder})

    def located(self) -> Recipe:
        """The same recipe with paths that mean the same everywhere on this machine."""
        sources = [
            source if source.path is None else source.model_copy(update={"path": source.path.resolve()})
            for source in self.sources
        ]
        return self.model_copy(update={"sources": tuple(sources)})


class _RecipeFile(Recipe):
    """A recipe that stands in a file, which must say what to read."""

    sources: tuple[Source, ...] = Field(min_length=1)


def sources_for(
    recipe: Recipe, paths: Sequence[Path], fields: FieldNames | None = None
) -> list[tuple[Source, Path | None]]:
    """Paths as sources, each with its `root` as `read` takes it.

    What lies in a folder that the recipe names is read as the recipe says, and named as from there; everything else
    with the given fields.
    """
    found: list[tuple[Source, Path | None]] = []
    for path in (path.resolve() for path in paths):
        known = [one for one in recipe.sources if one.path is not None and path.is_relative_to(one.path.resolve())]
        source = known[0] if known else Source(path=path)
        values = {"path": path} if fields is None else {"path": path, "fields": fields}
        root = known[0].path.resolve() if known and known[0].path is not None else None
        found.append((source.model_copy(update=values), root))
    return found


def write_options(path: Path, search: SearchOptions, adaptation: AdaptationOptions, *, why: Sequence[str]) -> None:
    """Set [search] and [adaptation] of the recipe in a file; all else in it stays as it is, comments too.

    why: lines that go into the file as comments. Raises RecipeError where the file is no recipe or cannot be written.
    """
    Recipe.read(path)
    content = tomlkit.parse(path.read_text(encoding="utf-8"))
    for name, options in (("search", search), ("adaptation", adaptation)):
        table = tomlkit.table()
        if name == "search":
            for line in why:
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
