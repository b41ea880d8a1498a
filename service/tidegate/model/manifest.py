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
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field, ValidationError, model_validator

from tidegate.config import first_problem
from tidegate.errors import PackageError
from tidegate.model.forecast import ForecastRules, check_carried, check_forecast
from tidegate.model.specs import (
    BATCH,
    TIME,
    ConstantInput,
    Dim,
    InitialFile,
    InitialValue,
    InputSpec,
    OutputSpec,
    Shaped,
    StatePair,
    Strict,
)
from tidegate.model.time_rules import TimeRules, check_time_rules

__all__ = [
    "BATCH",
    "TIME",
    "ConstantInput",
    "Dim",
    "InitialFile",
    "InitialValue",
    "InputSpec",
    "Manifest",
    "OutputSpec",
    "StatePair",
    "TimeRules",
    "format_manifest",
    "parse_manifest",
]

ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
VersionNumber = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,17}$")]


class Manifest(Strict):
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

    forecast: ForecastRules | None = None
    """How coming steps are forecast from a session's state; None: they cannot be."""

    batching: Literal["when-exact", "always"] = "when-exact"
    """"when-exact" batches only what the probe finds bit-identical; "always" batches all the same
    and gives up promise P1."""

    batch_exact: bool | None = None
    """What the probe found when the package was written; the server proves it again at load."""

    provenance: dict[str, Any] = Field(default={})
    """Recipe, data hash, library versions, seed, metrics on held-out data."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Manifest:
        taken = [i.name for i in self.inputs] + [s.input_name for s in self.states]
        taken += [c.name for c in self.constants]
        given, carried = [o.name for o in self.outputs], [s.output_name for s in self.states]
        for what, names in (("input", taken), ("output", given), ("state output", carried)):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"{what} {twice[0]!r} is named twice")
        return self

    @model_validator(mode="after")
    def _answers_that_are_states_agree(self) -> Manifest:
        answers = {o.name: o for o in self.outputs}
        for state in self.states:
            answer = answers.get(state.output_name, state)
            if (answer.dtype, answer.shape) != (state.dtype, state.shape):
                raise ValueError(
                    f"{state.output_name!r} is an output and a state: expected one dtype and shape, "
                    f"got {answer.dtype} {list(answer.shape)} and {state.dtype} {list(state.shape)}"
                )
        return self

    @model_validator(mode="after")
    def _axes_agree(self) -> Manifest:
        answered: list[tuple[str, Shaped]] = [*((i.name, i) for i in self.inputs)]
        answered += [(o.name, o) for o in self.outputs]
        shaped = [*answered, *((s.input_name, s) for s in self.states)]
        unbatched = [name for name, t in shaped if t.batch_axis is None]
        if 0 < len(unbatched) < len(shaped):
            raise ValueError(
                f"either every input, output and state marks a batch axis or none does; {unbatched[0]!r} has none"
            )
        untimed = [name for name, t in answered if t.time_axis is None]
        if 0 < len(untimed) < len(answered):
            raise ValueError(
                f"either every input and output marks a time axis or none does; {untimed[0]!r} has none"
            )
        return self

    @model_validator(mode="after")
    def _forecast_can_be_made(self) -> Manifest:
        check_carried(self.outputs, self.states)
        if self.forecast is not None:
            check_forecast(self.forecast, self.inputs, self.outputs, self.states)
        return self

    @model_validator(mode="after")
    def _time_rules_can_be_kept(self) -> Manifest:
        check_time_rules(self.time, self.inputs)
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
