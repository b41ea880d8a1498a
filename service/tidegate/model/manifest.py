"""The manifest of a model package: what the ONNX file beside it takes, gives and carries.

A model is a pure function `(x_t, state) -> (y_t, state')`. The manifest names its inputs, outputs and
state pairs, and marks in each shape which axis is the batch and which is the time:

    shape = ["batch", "time", 8]      # a frame of n rows and T steps is [n, T, 8]
    shape = [1, "batch", 64]          # a state with its batch axis second, as ONNX's LSTM has it
    shape = [1, 8]                    # no batch axis: the model takes one row at a time

Nothing is guessed: a pair that is not written here is not carried. The file is `manifest.toml`;
docs/model-package.md describes every key.
"""

from __future__ import annotations

import tomllib
from functools import cached_property
from typing import Annotated, Any, Final, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tidegate.config import first_problem
from tidegate.errors import PackageError
from tidegate.tensor import DType

BATCH: Final = "batch"
TIME: Final = "time"

Dim = Annotated[int, Field(ge=1)] | Literal["batch", "time"]
Name = Annotated[str, Field(min_length=1, max_length=128)]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
VersionNumber = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,17}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Shaped(_Strict):
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


class InputSpec(_Shaped):
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


class OutputSpec(_Shaped):
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


class InitialFile(_Strict):
    """The initial value of a state is a .npy file in the package."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.npy$")]


class InitialValue(_Strict):
    """The initial value of a state is the same number everywhere."""

    value: float


class StatePair(_Shaped):
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


class ConstantInput(_Strict):
    """An input of the graph that is the same in every run, such as a sample rate."""

    name: Name
    dtype: DType
    shape: tuple[Annotated[int, Field(ge=1)], ...] = ()
    value: float


class TimeRules(_Strict):
    """How a series is turned into steps; run by training, the client and the CLI alike."""

    cadence_s: Annotated[float, Field(ge=0)] = 0.0
    """Seconds between two steps; 0: not said."""

    column: str = ""
    """Column of a CSV file that holds the time of each row; a file without it is taken as it comes."""

    missing: Literal["refuse", "repeat-last"] = "refuse"
    """What a missing value becomes before it is sent: an error, or the last value seen."""


class Manifest(_Strict):
    """Everything that a server must know to run the ONNX file beside it."""

    format: Literal[1] = 1
    """Version of the manifest's own layout; a reader refuses one it does not know."""

    name: ModelName
    version: VersionNumber
    description: str = ""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of `model.onnx`; for a model with initial-state files, of all of them (see package.py)."""

    inputs: Annotated[tuple[InputSpec, ...], Field(min_length=1)]
    outputs: Annotated[tuple[OutputSpec, ...], Field(min_length=1)]
    states: tuple[StatePair, ...] = ()
    constants: tuple[ConstantInput, ...] = ()
    time: TimeRules = TimeRules()

    batching: Literal["when-exact", "always"] = "when-exact"
    """"when-exact" batches only what the probe finds bit-identical; "always" batches all the same
    and gives up promise P1."""

    batch_exact: bool | None = None
    """What the probe found when the package was written; the server proves it again at load."""

    provenance: dict[str, Any] = {}
    """Recipe, data hash, library versions, seed, metrics on held-out data."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Manifest:
        taken = [i.name for i in self.inputs] + [s.input_name for s in self.states]
        taken += [c.name for c in self.constants]
        given = [o.name for o in self.outputs] + [s.output_name for s in self.states]
        for what, names in (("input", taken), ("output", given)):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"{what} {twice[0]!r} is named twice")
        return self

    @model_validator(mode="after")
    def _axes_agree(self) -> Manifest:
        shaped: list[_Shaped] = [*self.inputs, *self.outputs, *self.states]
        batched = [t.batch_axis is not None for t in shaped]
        if any(batched) and not all(batched):
            raise ValueError("either every input, output and state marks a batch axis or none does")
        timed = [t.time_axis is not None for t in (*self.inputs, *self.outputs)]
        if any(timed) and not all(timed):
            raise ValueError("either every input and output marks a time axis or none does")
        return self

    @property
    def has_batch_axis(self) -> bool:
        """Whether several rows fit into one run."""
        return self.inputs[0].batch_axis is not None

    @property
    def has_time_axis(self) -> bool:
        """Whether several steps fit into one run."""
        return self.inputs[0].time_axis is not None

    @property
    def label(self) -> str:
        """The version as logs and error texts name it: `co2-weekly/1`."""
        return f"{self.name}/{self.version}"


def parse_manifest(text: str, *, source: str) -> Manifest:
    """Read a manifest.

    Args:
        text: Contents of a `manifest.toml`.
        source: What to call the file in an error.

    Raises:
        PackageError: Not TOML, a key missing, unknown or with a value that cannot be.
    """
    try:
        return Manifest.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise PackageError(f"{source}: not TOML: {error}") from error
    except ValidationError as error:
        raise PackageError(f"{source}: {first_problem(error)}") from error


def format_manifest(manifest: Manifest) -> str:
    """Write a manifest, leaving out what is at its default."""
    return tomli_w.dumps(
        manifest.model_dump(mode="json", exclude_defaults=True) | {"format": manifest.format}
    )
