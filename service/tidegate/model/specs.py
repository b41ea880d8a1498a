"""The tensors of a model package: types, shapes with their axes marked, and what their elements mean.

Made from a manifest and from nothing else; `model/manifest.py` says what they are for.
"""

from __future__ import annotations

from functools import cached_property
from math import isfinite
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tidegate.tensor import DType

BATCH: Final = "batch"
TIME: Final = "time"

Dim = Annotated[int, Field(ge=1)] | Literal["batch", "time"]
Name = Annotated[str, Field(min_length=1, max_length=128)]


class Strict(BaseModel):
    """A part of a manifest: a key that it does not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Shaped(Strict):
    """A tensor of the graph with its axes marked."""

    dtype: DType
    shape: tuple[Dim, ...]

    @field_validator("shape")
    @classmethod
    def _marks_are_unique(cls, shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
        for mark in (BATCH, TIME):
            if shape.count(mark) > 1:
                raise ValueError(f"{mark!r} marks more than one axis of {list(shape)}")
        return shape

    @property
    def batch_axis(self) -> int | None:
        """Position of the batch axis; None when the graph takes a fixed batch."""
        return self.shape.index(BATCH) if BATCH in self.shape else None

    @property
    def time_axis(self) -> int | None:
        """Position of the time axis; None when the graph takes one step at a time."""
        return self.shape.index(TIME) if TIME in self.shape else None

    @cached_property
    def step_shape(self) -> tuple[int, ...]:
        """Shape for one step of one session: the unmarked axes, in order."""
        return tuple(d for d in self.shape if isinstance(d, int))

    def graph_shape(self, batch: int, time: int) -> tuple[int, ...]:
        """Shape of the tensor in a run of `batch` rows and `time` steps."""
        marks = {BATCH: batch, TIME: time}
        return tuple(d if isinstance(d, int) else marks[d] for d in self.shape)


class InputSpec(Shaped):
    """An input that the client sends at every step."""

    name: Name

    features: tuple[str, ...] = ()
    """Names of the elements of the last axis."""

    units: tuple[str, ...] = ()
    """Units of the elements of the last axis; "" for a number without one."""

    typical: tuple[float, float] | None = None
    """Range that most values fall in; the batch-exact probe draws from it."""

    accepts_missing: bool = False
    """NaN means "missing" and reaches the graph; otherwise it is refused."""

    @model_validator(mode="after")
    def _labels_fit(self) -> InputSpec:
        width = self.step_shape[-1] if self.step_shape else 1
        for key in ("features", "units"):
            labels = getattr(self, key)
            if labels and len(labels) != width:
                raise ValueError(f"{key}: {len(labels)} given for a last axis of {width}")
        return self

    @model_validator(mode="after")
    def _missing_can_be_told(self) -> InputSpec:
        if self.accepts_missing and not self.dtype.is_float:
            raise ValueError(f"accepts_missing: expected a float type, which has NaN, got {self.dtype}")
        return self


class OutputSpec(Shaped):
    """An output that the client gets at every step."""

    name: Name

    features: tuple[str, ...] = ()
    """Names of what is predicted, in the order of the axis that holds it."""

    units: tuple[str, ...] = ()

    horizon_steps: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """How many steps ahead each element looks. With quantiles the step shape is
    [horizons, quantiles]; without, [horizons]. Empty: the same step."""

    quantile_levels: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    """Quantile levels of the last axis, ascending; empty: a point forecast."""

    carried_as: str = ""
    """`input_name` of the state pair that carries the answer to the last step; "": none does."""

    @property
    def quantile_axis(self) -> int | None:
        """Where the step shape has the quantiles."""
        return len(self.step_shape) - 1 if self.quantile_levels else None

    @property
    def horizon_axis(self) -> int | None:
        """Where the step shape has the horizons."""
        return len(self.step_shape) - 1 - bool(self.quantile_levels) if self.horizon_steps else None

    @property
    def feature_axis(self) -> int | None:
        """Where the step shape has what is predicted; None where a single feature needs no axis."""
        axis = len(self.step_shape) - 1 - bool(self.quantile_levels) - bool(self.horizon_steps)
        return axis if axis >= 0 else None


class InitialFile(Strict):
    """The initial value of a state is a .npy file in the package."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.npy$")]


class InitialValue(Strict):
    """The initial value of a state is the same number everywhere."""

    value: float


class StatePair(Shaped):
    """A tensor that goes in as `input_name` and comes out, one step later, as `output_name`."""

    input_name: Name
    output_name: Name
    initial: Literal["zeros"] | InitialValue | InitialFile = "zeros"

    @field_validator("shape")
    @classmethod
    def _no_time_axis(cls, shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
        if TIME in shape:
            raise ValueError(f"a state has no time axis, got {list(shape)}")
        return shape

    @model_validator(mode="after")
    def _initial_value_fits(self) -> StatePair:
        if isinstance(self.initial, InitialValue):
            _check_value(self.dtype, self.initial.value)
        return self


class ConstantInput(Strict):
    """An input of the graph that is the same in every run, such as a sample rate."""

    name: Name
    dtype: DType
    shape: tuple[Annotated[int, Field(ge=1)], ...] = ()
    value: float

    @model_validator(mode="after")
    def _value_fits(self) -> ConstantInput:
        _check_value(self.dtype, self.value)
        return self


def _check_value(dtype: DType, value: float) -> None:
    """Refuse a number that numpy would cut or wrap around to make it fit."""
    if dtype.is_float:
        fits = not isfinite(value) or abs(value) <= float(np.finfo(dtype.numpy).max)
    elif dtype is DType.BOOL:
        fits = value in (0, 1)
    else:
        limits = np.iinfo(dtype.numpy)
        fits = float(value).is_integer() and int(limits.min) <= value <= int(limits.max)
    if not fits:
        raise ValueError(f"{value:g} is no {dtype}")
