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

from pydantic import (
    Field,
    ValidationError,
    model_validator,
)

from tidegate.config import first_problem
from tidegate.errors import ConfigError
from tidegate.model.manifest import ModelName, TimeRules, VersionNumber
from tidegate.training.network_recipe import Count, NetworkRecipe, Positive, RecipePart


class Column(RecipePart):
    """A column that the network sees."""

    name: Annotated[str, Field(min_length=1)]

    unit: str = ""
    """For people; nothing is converted."""


class DataRecipe(RecipePart):
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


class ForecastRecipe(RecipePart):
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

    calibrate: bool = False
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


class TrainingRecipe(RecipePart):
    """How the weights are found: AdamW on the quantile loss, truncated back-propagation through time."""

    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 1

    optimiser: Literal["adamw"] = "adamw"

    learning_rate: Positive = 0.003
    """Falls to a hundredth of this along a cosine."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Share of each weight taken off per step, times the learning rate."""

    max_gradient_norm: Positive = 1.0
    """Longer gradients are clipped to this."""

    error_unit: Literal["change", "column"] = "change"
    """What the loss measures errors in. "change": the usual change of each target to each horizon, in the
    session's own unit where it has one, so that targets and sessions count alike. "column": the standard
    deviation of each target's column, so that what varies more within it counts more; horizons count alike
    in both."""

    max_epochs: Count = 100

    patience_epochs: Count = 30
    """Stop when the validation loss has not fallen for so many epochs; the best weights are kept."""

    batch_size: Count = 16
    """Runs side by side, each from a random row on."""

    cold_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the runs that start as new sessions do. The others remember the rows before, so far as lags,
    windows and scales reach; their cells begin anew all the same."""

    run_chunks: Count = 8
    """Chunks of one run; the state is handed from each to the next."""

    chunk_steps: Count = 52
    """Steps that the gradient reaches back."""


class Recipe(RecipePart):
    """One training run."""

    name: ModelName
    version: VersionNumber
    description: str = ""
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
