"""Where the data file of a recipe lies: beside the recipe, or in the folder of data that are not shared with it."""

from __future__ import annotations

import os
from pathlib import Path

from tidegate.errors import ConfigError

DATA_VARIABLE = "TIDEGATE_DATA"
"""Names the folder."""

DEFAULT_FOLDER = Path("../shared/data")


def data_file(name: str, beside: Path) -> Path:
    """The file that a recipe means.

    Args:
        name: As the recipe has it.
        beside: Folder of the recipe.

    Raises:
        ConfigError: It is in neither place.
    """
    folder = Path(os.environ.get(DATA_VARIABLE) or DEFAULT_FOLDER)
    places = [beside / name, folder / name]
    for place in places:
        if place.is_file():
            return place
    looked = " and ".join(str(place) for place in places)
    raise ConfigError(
        f"data.file: {name!r}: no such file; looked for {looked} ({DATA_VARIABLE} names the folder)"
    )
