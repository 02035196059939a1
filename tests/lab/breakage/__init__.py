"""Ways in which environments really break, each as a recipe: what it does, and which check of
`doctor` has to name it."""

from __future__ import annotations

from tests.lab.breakage import around, files, outside, paths, people, shell, strange, torch_parts
from tests.lab.breakage.recipe import Lab, Recipe

RECIPES = (
    *files.RECIPES,
    *paths.RECIPES,
    *torch_parts.RECIPES,
    *outside.RECIPES,
    *around.RECIPES,
    *shell.RECIPES,
    *people.RECIPES,
    *strange.RECIPES,
)

__all__ = ["RECIPES", "Lab", "Recipe"]
