"""The part of a recipe that says what the network is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tidegate.training.cells import CellName
from tidegate.training.recipe_types import Count, Flag, Positive, RecipePart


class LinearRecipe(RecipePart):
    """A linear forecast from a window of past values, solved in closed form on the training rows."""

    window: Annotated[int, Field(ge=2, le=10_000, strict=True)]
    """Values of each column that it looks at; every session carries them."""

    ridge: Positive = 0.01
    """Keeps the weights of the next step's forecast small."""

    far_ridge: Positive = 0.3
    """The same for the furthest horizon; those between lie between."""

    own_ridge: Positive = 100.0
    """Keeps each target's weights near those that all share; as a multiple of the ridge."""

    shared_ridge: Positive = 0.1
    """Keeps the weights of the other columns' changes and of the calendar small."""

    cell_share: Annotated[float, Field(gt=0, lt=1, strict=True)] = 0.4
    """How much the cells' forecast counts in the average of the two."""


class NetworkRecipe(RecipePart):
    """The shape of the network."""

    cell: CellName = "lstm"
    """What the network remembers with."""

    hidden_size: Annotated[int, Field(ge=1, le=4096, strict=True)] = 32
    """Units of each layer; the state and the time of a step grow with it."""

    num_layers: Annotated[int, Field(ge=1, le=16, strict=True)] = 1
    """Layers of cells on top of each other."""

    lags: Annotated[tuple[Count, ...], Field(min_length=1)] = (1,)
    """How many steps back the values lie that the current one is compared with. The longest decides how
    many values each session carries."""

    means: tuple[Annotated[int, Field(ge=2, strict=True)], ...] = ()
    """Lengths of the windows, the current value included, with whose means the current value is compared
    too. Their graphs take one step at a time."""

    shared: Flag = False
    """One set of weights for all columns: the cells run on each column by itself, and know which it is. For
    many columns of one kind."""

    calendar_bins: Flag = False
    """The cells see the calendar's cycles by bins (24 for the hour of the day) and not as sine and cosine."""

    dropout: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.0
    """Share of the head's inputs that are hidden from it at random while training."""

    normalise: Literal["fixed", "running", "frozen"] = "fixed"
    """What values and changes are measured in. "fixed": the scale of the training rows. "running": the
    session's own mean and scale, carried beside its other states, which begin with the training rows' and
    adapt for ever. "frozen": they adapt for `normalise_steps` values and then stay. The latter two serve
    sessions whose levels and swings differ from those of the training rows; their graphs take one step at
    a time."""

    normalise_by: Literal["level", "change"] = "level"
    """The scale is that of the distances from the mean, or that of the changes from step to step, which does
    without a mean."""

    normalise_steps: Annotated[int, Field(ge=2, le=100_000, strict=True)] = 500
    """Memory of the session's own mean and scale, in steps; what a single value adds to a longer one is lost to
    the rounding of float32."""

    sees_level: Flag = False
    """The cells see each value's distance from the mean as well as its changes. For series that keep coming
    back to their level; not for one with a trend, whose level is always new."""

    linear: LinearRecipe | None = None
    """A linear forecast that the cells' own is averaged with."""

    @field_validator("lags", "means")
    @classmethod
    def _ascending(cls, steps: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if list(steps) != sorted(set(steps)):
            raise ValueError(f"expected ascending {info.field_name}, each once, got {list(steps)}")
        return steps

    @model_validator(mode="after")
    def _level_is_known(self) -> NetworkRecipe:
        if self.sees_level and self.normalise != "fixed" and self.normalise_by == "change":
            raise ValueError("sees_level: needs normalise_by = 'level', which keeps a mean")
        return self

    @property
    def reach_steps(self) -> int:
        """How far back the network looks beside its cells."""
        return max(self.lags[-1], *self.means, self.linear.window if self.linear else 0)
