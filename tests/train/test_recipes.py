"""The recipes of the repository."""

from pathlib import Path

import pytest

from cryonb.train.recipe import NetworkRecipe, Recipe

FOLDER = Path(__file__).parents[2] / "recipes"
FILES = sorted(FOLDER.rglob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_recipe_can_be_read_and_has_the_name_of_its_file(path):
    recipe = Recipe.read(path)
    assert recipe.name == path.stem
    if isinstance(recipe, NetworkRecipe) and recipe.start.startswith("runs/"):
        # What it goes on from is made by another recipe.
        assert (FOLDER / f"{Path(recipe.start).parts[1]}.toml").is_file()
