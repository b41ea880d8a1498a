"""A recipe: everything that decides what a training run makes, in one TOML file.

Two runs of one recipe on one machine give the same bytes. An unknown key is refused by name, so a
misspelt option never silently takes its default.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from tidegate.config import first_problem
from tidegate.errors import ConfigError
from tidegate.model.manifest import ModelName, VersionNumber
from tidegate.training.cells import CellName
from tidegate.training.data_recipe import DataRecipe
from tidegate.training.recipe_types import Count, Strict
from tidegate.training.training_recipe import TrainingRecipe


class NetworkRecipe(Strict):
    """The shape of the network."""

    cell: CellName = "lstm"

    hidden_size: Annotated[int, Field(ge=1, le=4096)] = 32
    """Units of each layer; the state and the time of a step grow with it."""

    num_layers: Annotated[int, Field(ge=1, le=16)] = 1

    lags: Annotated[tuple[Count, ...], Field(min_length=1)] = (1,)
    """How many steps back the values lie that the current one is compared with. The longest decides how
    many values each session carries."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the head's inputs that are hidden from it at random while training."""

    normalise: Literal["fixed", "running", "frozen"] = "fixed"
    """What values and changes are measured in. "fixed": the scale of the training rows. "running": the
    session's own mean and scale, carried beside its other states, which begin with the training rows' and
    adapt for ever. "frozen": they adapt for `normalise_steps` values and then stay. The latter two serve
    sessions whose levels and swings differ from those of the training rows; their graphs take one step at
    a time."""

    normalise_steps: Annotated[int, Field(ge=2, le=10_000_000)] = 500
    """Memory of the session's own mean and scale, in steps."""

    sees_level: bool = False
    """The cells see each value's distance from the mean as well as its changes. For series that keep coming
    back to their level; not for one with a trend, whose level is always new."""

    @field_validator("lags")
    @classmethod
    def _ascending(cls, lags: tuple[int, ...]) -> tuple[int, ...]:
        if list(lags) != sorted(set(lags)):
            raise ValueError(f"expected ascending lags, each once, got {list(lags)}")
        return lags


class ForecastRecipe(Strict):
    """What is forecast."""

    mode: Literal["direct", "rollout"] = "direct"
    """"direct": each step answers with all horizons at once. "rollout": it answers with the next step, and
    `tidegate forecast` feeds the middle quantiles back as the coming inputs; one set of weights then serves
    any horizon, but the intervals are those of one step, given that the steps before it come as predicted."""

    max_horizon_steps: Count = 1
    """The forecast covers every step from 1 to this one."""

    quantile_levels: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1)] = (
        0.1,
        0.5,
        0.9,
    )
    """An odd number of levels, ascending, with 0.5 in the middle."""

    season_steps: Count
    """Steps in a season; the forecast is compared with the value one season before its target."""

    @model_validator(mode="after")
    def _fits(self) -> ForecastRecipe:
        levels = list(self.quantile_levels)
        if levels != sorted(set(levels)) or len(levels) % 2 == 0 or levels[len(levels) // 2] != 0.5:
            raise ValueError(f"quantile_levels: expected ascending levels around 0.5, got {levels}")
        if self.max_horizon_steps > self.season_steps:
            raise ValueError(
                f"max_horizon_steps: expected at most season_steps ({self.season_steps}), because the season before"
                f" the target must be known, got {self.max_horizon_steps}"
            )
        return self


class Recipe(Strict):
    """One training run."""

    name: ModelName
    version: VersionNumber
    description: str = ""
    data: DataRecipe
    network: NetworkRecipe = NetworkRecipe()
    forecast: ForecastRecipe
    training: TrainingRecipe = TrainingRecipe()

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        rest = [c.name for c in self.data.columns if c.name not in self.data.targets]
        if self.forecast.mode == "rollout" and rest:
            raise ValueError(
                f"forecast.mode: 'rollout' feeds every column back, so all must be targets; {rest[0]!r} is none"
            )
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


def read_recipe(path: Path, *, version: str | None = None) -> RecipeFile:
    """Read a recipe.

    Args:
        path: The TOML file.
        version: Write this version instead of the one in the file.

    Raises:
        ConfigError: No such file, not TOML, or a key that is unknown, missing or impossible.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    try:
        keys = tomllib.loads(text) | ({} if version is None else {"version": version})
        return RecipeFile(path, text, Recipe.model_validate(keys))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_problem(error)}") from error
