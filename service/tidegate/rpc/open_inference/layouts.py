"""The form in which this door has a model's tensors: `[B, T, step_shape...]`, whatever the axes of its graph.

A request may leave the time axis out, in all of its inputs; its answer then has none either. What follows
from a manifest is worked out once per loaded version, because a request has no time for it.

Only the event loop's thread calls this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
        one_step: The shapes of one step of one window, without the time axis and with it.
    """

    spec: InputSpec | OutputSpec
    name: str
    datatype: str
    numpy: np.dtype[Any]
    step_shape: tuple[int, ...]
    step_bytes: int
    one_step: tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ModelLayout:
    """A version's tensors, in the manifest's order.

    Attributes:
        output_index: Position of each output, by name.
        all_outputs: The positions of all.
    """

    manifest: Manifest
    inputs: tuple[TensorLayout, ...]
    outputs: tuple[TensorLayout, ...]
    output_index: Mapping[str, int]
    all_outputs: Sequence[int]


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
        all_outputs=range(len(outputs)),
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
        one_step=((1, *shape), (1, 1, *shape)),
    )
