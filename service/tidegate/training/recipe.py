"""A recipe: everything that decides what a training run makes, in one TOML file.

Two runs of one recipe on one machine give the same bytes. An unknown key is refused by name, so a
misspelt option never silently takes its default.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    ValidationError,
    model_validator,
)

from tidegate.config import first_problem
from tidegate.errors import ConfigError
from tidegate.model.manifest import ModelName, VersionNumber
from tidegate.training.data_recipe import DataRecipe
from tidegate.training.network_recipe import NetworkRecipe
from tidegate.training.recipe_types import Count, Flag, Positive, RecipePart
from tidegate.training.training_recipe import TrainingRecipe


class ForecastRecipe(RecipePart):
    """What is forecast."""

    mode: Literal["direct", "rollout"] = "direct"
    """"direct": each step answers with all horizons at once. "rollout": it answers with the next step, and
    `tidegate forecast` feeds the middle quantiles back as the coming inputs; one set of weights then serves
    any horizon, but the intervals are those of one step, given that the steps before it come as predicted."""

    max_horizon_steps: Count = 1
    """The forecast covers every step from 1 to this one."""

    quantile_levels: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=1, strict=True)], ...], Field(min_length=1)
    ] = (
        0.1,
        0.5,
        0.9,
    )
    """An odd number of levels, ascending, with 0.5 in the middle."""

    calibrate: Flag = False
    """Once the weights are found, scale the distances between quantiles so that each level holds over the
    training and validation rows."""

    season_steps: Count
    """Steps in a season; the forecast is compared with the newest known value that lies whole seasons before
    its target."""

    @model_validator(mode="after")
    def _fits(self) -> ForecastRecipe:
        levels = list(self.quantile_levels)
        if levels != sorted(set(levels)) or len(levels) % 2 == 0 or levels[len(levels) // 2] != 0.5:
            raise ValueError(f"quantile_levels: expected ascending levels around 0.5, got {levels}")
        return self


class AnomalyRecipe(RecipePart):
    """An output `anomaly`: how unlikely each value was under the forecast of the step before, from 0 to 1."""

    smallest_width: Positive = 0.001
    """Quantiles closer than this share of the usual change count as so far apart."""


class Recipe(RecipePart):
    """One training run."""

    name: ModelName
    """Of the model, and of its folder: letters, digits, dots, dashes and underscores."""

    version: VersionNumber
    """A whole number from 1 on, written as text."""

    description: str = ""
    """One line for people."""

    data: DataRecipe
    network: NetworkRecipe = NetworkRecipe()
    forecast: ForecastRecipe
    anomaly: AnomalyRecipe | None = None
    training: TrainingRecipe = TrainingRecipe()

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        rest = [c.name for c in self.data.columns if c.name not in self.data.targets]
        if self.forecast.mode == "rollout" and rest:
            raise ValueError(
                f"forecast.mode: 'rollout' feeds every column back, so all must be targets; {rest[0]!r} is none"
            )
        if self.anomaly is not None and len(self.forecast.quantile_levels) < 3:
            raise ValueError("anomaly: needs at least three forecast.quantile_levels")
        if self.network.calendar_bins and not self.data.time.calendar:
            raise ValueError("network.calendar_bins: needs data.time.calendar")
        return self

    @property
    def num_horizons(self) -> int:
        """Steps that the network looks ahead by itself, K."""
        return 1 if self.forecast.mode == "rollout" else self.forecast.max_horizon_steps


@dataclass(frozen=True)
class RecipeFile:
    """A recipe with where it stands and how it was written.

    Attributes:
        path: The file; `data.file` is relative to its folder.
        text: Its contents.
        recipe: What they say.
    """

    path: Path
    text: str
    recipe: Recipe


def read_recipe(path: Path, *, version: str | None = None, seed: int | None = None) -> RecipeFile:
    """Read a recipe.

    Args:
        path: The TOML file.
        version: Write this version instead of the one in the file.
        seed: Train with this seed instead of the one in the file.

    Raises:
        ConfigError: No such file, not TOML, or a key that is unknown, missing or impossible.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not TOML, which is UTF-8: {error}") from error
    try:
        keys = tomllib.loads(text)
        if version is not None:
            keys["version"] = version
        if seed is not None:
            # A table that is none is refused below, by its name.
            training = keys.setdefault("training", {})
            keys["training"] = training | {"seed": seed} if isinstance(training, dict) else training
        return RecipeFile(path, text, Recipe.model_validate(keys))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_problem(error)}") from error
