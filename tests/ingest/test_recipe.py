"""Recipes: what is refused by name, and options written into one without harm to the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from semsearch.errors import RecipeError, SemsearchError
from semsearch.ingest.recipe import Recipe, write_options
from semsearch.storage.manifest import AdaptationOptions, SearchOptions
from semsearch.types import Mode


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nonsense", "is not a recipe"),
        ("title = 1\nsources = []", "title: .*; sources: "),
        ("[[sources]]\n", "either a path or python"),
        ('[[sources]]\npath = "a"\nencoding = "klingon"', "encoding 'klingon' is unknown"),
        ('[[sources]]\npath = "a"\nspeed = 9', "sources.0.speed"),
        ('[[sources]]\npath = "a"\n[search]\nmode = "magic"', "search.mode"),
        ('[[sources]]\npath = "a"\n[search]\nlexical_weight = 11', "search.lexical_weight"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused_by_field(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(RecipeError, match=complaint):
        Recipe.read(tmp_path / "r.toml")


def test_a_recipes_paths_are_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[[sources]]\npath = "docs"\n')
    assert Recipe.read(tmp_path / "r.toml").sources[0].path == tmp_path / "docs"


def test_a_missing_recipe_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(SemsearchError, match="no recipe at"):
        Recipe.read(tmp_path / "none.toml")


RECIPE = """# our shop
title = "Shop"  # shown

[search]
# an old reason
mode = "semantic"

[[sources]]
path = "docs"  # all of it
"""


def test_options_are_written_and_all_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "shop.toml"
    path.write_text(RECIPE)
    search = SearchOptions(mode=Mode.HYBRID, lexical_weight=0.4)
    for _ in range(2):
        write_options(path, search, AdaptationOptions(learners=("listwise-c1-r1",)), comments=["because", "0.5  0.6"])
    text = path.read_text()
    recipe = Recipe.read(path)
    assert (recipe.search, recipe.adaptation.learners) == (search, ("listwise-c1-r1",))
    assert (recipe.title, recipe.sources[0].path) == ("Shop", tmp_path / "docs")
    for kept in ("# our shop", "# shown", "# all of it", "# because", "# 0.5  0.6"):
        assert text.count(kept) == 1
    assert "old reason" not in text
    write_options(path, SearchOptions(lexical_weight="rrf"), AdaptationOptions(), comments=[])
    assert Recipe.read(path).search.lexical_weight == "rrf"
    assert Recipe.read(path).adaptation == AdaptationOptions()


def test_what_is_no_recipe_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "shop.toml"
    path.write_text("title = 1\n")
    with pytest.raises(RecipeError, match="title"):
        write_options(path, SearchOptions(), AdaptationOptions(), comments=[])
    assert path.read_text() == "title = 1\n"


@pytest.mark.parametrize("model", ["a/" * 3_000, "x" * 300])
def test_an_encoder_whose_name_no_file_can_have_is_read_as_it_is(tmp_path: Path, model: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'[encoder]\nmodel = "{model}"\n\n[[sources]]\npath = "."\n')
    recipe = Recipe.read(path)
    assert recipe.located().encoder.model == recipe.encoder.model == model
