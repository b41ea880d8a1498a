"""Where the file lies that a recipe names: data that may not be given away lie outside of the project."""

from __future__ import annotations

import os
from pathlib import Path

from tidegate.errors import ConfigError
from tidegate.training.recipe import RecipeFile

DATA_VARIABLE = "TIDEGATE_DATA"
"""Environment variable that names the data folder."""

DEFAULT_FOLDER = Path("../shared/data")
"""The data folder, relative to the working directory, where the variable is not set."""


def data_folder() -> Path:
    """The folder in which files are looked for that do not lie beside their recipe."""
    return Path(os.environ.get(DATA_VARIABLE) or DEFAULT_FOLDER)


def find_data(file: RecipeFile) -> Path:
    """The file that a recipe names.

    Raises:
        ConfigError: It is neither beside the recipe nor in the data folder; names both places.
    """
    named, folders = file.recipe.data.file, (file.path.parent, data_folder())
    for folder in folders:
        if (folder / named).is_file():
            return folder / named
    beside, shared = folders
    raise ConfigError(
        f"{file.path}: data.file: expected {named!r} beside the recipe, in {beside}, or in the data folder {shared}, "
        f"which {DATA_VARIABLE} sets; it is in neither"
    )
