"""The form in which this door has a model's tensors: `[B, T, step_shape...]`, whatever the axes of its graph.

A request may leave the time axis out, in all of its inputs; its answer then has none either. What follows
from a manifest is worked out once per loaded version, because a request has no time for it.

Only the event loop's thread calls this.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from tidegate.model.manifest import InputSpec, Manifest, OutputSpec
from tidegate.tensor import DType, num_elements

NAMES: Mapping[DType, str] = {
    DType.FLOAT32: "FP32",
    DType.FLOAT64: "FP64",
    DType.FLOAT16: "FP16",
    **{d: d.name for d in DType if not d.is_float},
}
"""What the protocol calls our element types; it also has BYTES and BF16, which no model here takes."""

MAX_KNOWN = 64
MAX_KNOWN_BYTES = 512
"""How many forms of messages a layout remembers, and of what length: clients choose them."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Known(Generic[K, V]):
    """What was found out about forms that come again and again, up to a number of them: the oldest go first."""

    __slots__ = ("_found", "get")

    def __init__(self) -> None:
        self._found: dict[K, V] = {}
        self.get = self._found.get

    def remember(self, form: K, found: V) -> None:
        """Keep it; one that is in use and goes comes back with its next message."""
        if len(self._found) >= MAX_KNOWN:
            del self._found[next(iter(self._found))]
        self._found[form] = found


class KnownInput(NamedTuple):
    """What a good message of an input without its elements says.

    Attributes:
        shape: `[B, T, step_shape...]`.
        num_bytes: Size of that.
        has_time: The message has the time axis.
    """

    shape: tuple[int, ...]
    num_bytes: int
    has_time: bool


class AnswerForm(NamedTuple):
    """What the answers that differ in their elements only have in common.

    Attributes:
        chosen: Positions of the outputs.
        has_time: Their shapes have the time axis.
        windows_and_steps: B and T.
    """

    chosen: tuple[int, ...]
    has_time: bool
    windows_and_steps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorLayout:
    """One input or output of a model.

    Attributes:
        spec: What the manifest says of it.
        name: Its name.
        datatype: Its element type as the protocol has it.
        numpy: Its element type, little-endian.
        step_shape: Shape of one step of one window.
        step_bytes: Size of that.
    """

    spec: InputSpec | OutputSpec
    name: str
    datatype: str
    numpy: np.dtype[Any]
    step_shape: tuple[int, ...]
    step_bytes: int


@dataclass(frozen=True, slots=True)
class ModelLayout:
    """A version's tensors, in the manifest's order.

    Attributes:
        output_index: Position of each output, by name.
        all_outputs: The positions of all.
        answer_bytes: Size of all outputs of one step of one window.
        known_inputs: Good messages of the only input, without their elements.
        known_answers: Answers without their elements, as bytes.
    """

    manifest: Manifest
    inputs: tuple[TensorLayout, ...]
    outputs: tuple[TensorLayout, ...]
    output_index: Mapping[str, int]
    all_outputs: tuple[int, ...]
    answer_bytes: int
    known_inputs: Known[bytes, KnownInput] = field(default_factory=Known)
    known_answers: Known[AnswerForm, bytes] = field(default_factory=Known)


class Layouts:
    """The layouts of the versions that requests have named."""

    def __init__(self) -> None:
        self._by_version: dict[tuple[str, str], ModelLayout] = {}

    def of(self, manifest: Manifest) -> ModelLayout:
        """The layout of a loaded version."""
        version = (manifest.name, manifest.version)
        layout = self._by_version.get(version)
        # A version that was unloaded and loaded again has another manifest, which says the same.
        if layout is None or layout.manifest is not manifest:
            layout = self._by_version[version] = lay_out(manifest)
        return layout


def lay_out(manifest: Manifest) -> ModelLayout:
    """Work out what requests need to know of a version."""
    outputs = tuple(_tensor(o) for o in manifest.outputs)
    return ModelLayout(
        manifest=manifest,
        inputs=tuple(_tensor(i) for i in manifest.inputs),
        outputs=outputs,
        output_index={o.name: i for i, o in enumerate(outputs)},
        all_outputs=tuple(range(len(outputs))),
        answer_bytes=sum(o.step_bytes for o in outputs),
    )


def _tensor(spec: InputSpec | OutputSpec) -> TensorLayout:
    shape = spec.step_shape
    return TensorLayout(
        spec=spec,
        name=spec.name,
        datatype=NAMES[spec.dtype],
        numpy=spec.dtype.numpy,
        step_shape=shape,
        step_bytes=num_elements(shape) * spec.dtype.numpy.itemsize,
    )
