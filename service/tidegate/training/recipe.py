"""A recipe: everything that decides what a training run makes, in one TOML file.

Two runs of one recipe on one machine give the same bytes. An unknown key is refused by name, so a
misspelt option never silently takes its default.
"""

from __future__ import annotations

import datetime as dt
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tidegate.config import first_problem
from tidegate.errors import ConfigError
from tidegate.model.manifest import ModelName, TimeRules, VersionNumber
from tidegate.training.cells import CellName

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Column(_Strict):
    """A column that the network sees."""

    name: Annotated[str, Field(min_length=1)]

    unit: str = ""
    """For people; nothing is converted."""


class DataRecipe(_Strict):
    """Where the series comes from and how it becomes steps."""

    file: str
    """CSV file, relative to the recipe."""

    columns: Annotated[tuple[Column, ...], Field(min_length=1)]
    """What the network sees at each step, in order."""

    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    """The columns that are forecast, some of `columns`; for a single one `target = "name"` will do."""

    time: TimeRules
    """Goes into the manifest as it is; `column` is required here."""

    validation_from: dt.date
    """First day of the validation split; everything before it is trained on."""

    test_from: dt.date
    """First day of the held-out split, which is looked at once, after training."""

    @model_validator(mode="before")
    @classmethod
    def _single_target(cls, keys: Any) -> Any:
        if not isinstance(keys, dict) or "target" not in keys:
            return keys
        if "targets" in keys:
            raise ValueError("target: expected either target or targets, got both")
        return {name: value for name, value in keys.items() if name != "target"} | {
            "targets": [keys["target"]]
        }

    @model_validator(mode="after")
    def _fits(self) -> DataRecipe:
        names = [c.name for c in self.columns]
        computed = self.time.computed_features & set(names)
        if computed:
            raise ValueError(f"columns: {min(computed)!r} is computed from the calendar, and no column")
        if len(set(names)) != len(names):
            raise ValueError(f"columns: names must differ, got {names}")
        for target in self.targets:
            if target not in names:
                raise ValueError(f"targets: expected one of {names}, got {target!r}")
        if len(set(self.targets)) != len(self.targets):
            raise ValueError(f"targets: names must differ, got {list(self.targets)}")
        if not self.time.column:
            raise ValueError("time.column: required, because the split is by time")
        if self.test_from <= self.validation_from:
            raise ValueError(f"test_from: expected a day after {self.validation_from}, got {self.test_from}")
        return self

    @property
    def target_positions(self) -> tuple[int, ...]:
        """Where the targets stand among the columns."""
        names = [c.name for c in self.columns]
        return tuple(names.index(target) for target in self.targets)

    @property
    def target_units(self) -> tuple[str, ...]:
        """What the targets are measured in."""
        return tuple(self.columns[position].unit for position in self.target_positions)


class NetworkRecipe(_Strict):
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


class ForecastRecipe(_Strict):
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


class TrainingRecipe(_Strict):
    """How the weights are found: AdamW on the quantile loss, truncated back-propagation through time."""

    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 1

    optimiser: Literal["adamw"] = "adamw"

    learning_rate: Positive = 0.003
    """Falls to a hundredth of this along a cosine."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Share of each weight taken off per step, times the learning rate."""

    max_gradient_norm: Positive = 1.0
    """Longer gradients are clipped to this."""

    max_epochs: Count = 100

    patience_epochs: Count = 30
    """Stop when the validation loss has not fallen for so many epochs; the best weights are kept."""

    batch_size: Count = 16
    """Runs side by side; each starts cold at a random row, so that young sessions are learnt too."""

    run_chunks: Count = 8
    """Chunks of one run; the state is handed from each to the next."""

    chunk_steps: Count = 52
    """Steps that the gradient reaches back."""


class Recipe(_Strict):
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
