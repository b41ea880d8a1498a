"""The shapes of a graph's tensors with their axes marked, from what its owner says of them.

A free dimension has a name in the graph, or none; what it stands for is never taken from its name, its place
or its size. A fixed one needs no answer: it cannot be a batch or a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tidegate.errors import ConfigError
from tidegate.model.signature import GraphTensor
from tidegate.model.specs import BATCH, TIME, Dim

ALL = ""
"""Key of an axis that holds for every tensor without one of its own."""


@dataclass(frozen=True, kw_only=True)
class AxisAnswers:
    """What the owner of a graph says of its axes.

    Attributes:
        shapes: Whole shapes by tensor, with their axes marked; these need no further answer.
        batch: Batch axis by tensor, or `ALL`; negative ones count from the end, None: there is none.
        time: The same for the time; it does not reach states.
        dims: What the free dimensions of a name are, in every tensor.
    """

    shapes: Mapping[str, tuple[Dim, ...]] = field(default_factory=dict)
    batch: Mapping[str, int | None] = field(default_factory=dict)
    time: Mapping[str, int | None] = field(default_factory=dict)
    dims: Mapping[str, Dim] = field(default_factory=dict)

    def named(self) -> list[tuple[str, list[str]]]:
        """Flags, and the tensors that they name."""
        return [
            ("--shape", list(self.shapes)),
            ("--batch-axis", list(self.batch)),
            ("--time-axis", list(self.time)),
        ]


class Axes:
    """Finds the shapes of one graph's tensors, and remembers what has not been said.

    Attributes:
        shapes: Those found, by tensor.
    """

    def __init__(self, answers: AxisAnswers) -> None:
        self.shapes: dict[str, tuple[Dim, ...]] = {}
        self._answers = answers
        self._unnamed: list[GraphTensor] = []
        self._free: dict[str, list[str]] = {}

    def resolve(self, tensor: GraphTensor, *, is_timed: bool) -> None:
        """Work out the shape of a tensor.

        Args:
            tensor: Of the graph.
            is_timed: It may have a time axis; what is carried has none.

        Raises:
            ConfigError: An axis is not there, or is marked though its size is fixed.
        """
        said = self._answers.shapes.get(tensor.name)
        if said is not None:
            self.shapes[tensor.name] = said
            return
        marks = self._marks(tensor, is_timed)
        if not tensor.dims:
            self._unnamed.append(tensor)
            return
        shape = [self._dim(tensor, axis, marks) for axis in range(len(tensor.dims))]
        self.shapes[tensor.name] = tuple(dim for dim in shape if dim is not None)

    def questions(self) -> Iterator[str]:
        """What has still to be said, each with the flag to give."""
        for dim, tensors in self._free.items():
            yield (
                f"--dim {dim}=batch|time|SIZE\n      what the free dimension {dim!r} of {', '.join(tensors)} is"
            )
        for tensor in self._unnamed:
            dims = ",".join(str(d) if isinstance(d, int) else "?" for d in tensor.dims) or "DIM,DIM,..."
            lack = (
                "has dimensions without a name" if tensor.dims else "does not say how many dimensions it has"
            )
            yield f"--shape {tensor.name}={dims}\n      {tensor.name!r} {lack}: batch, time or a size for each"

    def _marks(self, tensor: GraphTensor, is_timed: bool) -> dict[int, Dim]:
        """The marked axes of a tensor."""
        said: list[tuple[str, Dim, Mapping[str, int | None]]] = [("--batch-axis", BATCH, self._answers.batch)]
        if is_timed:
            said.append(("--time-axis", TIME, self._answers.time))
        marks: dict[int, Dim] = {}
        for flag, mark, axes in said:
            axis = axes.get(tensor.name, axes.get(ALL))
            if axis is not None and tensor.dims:
                marks[_checked_axis(flag, axis, tensor)] = mark
        return marks

    def _dim(self, tensor: GraphTensor, axis: int, marks: Mapping[int, Dim]) -> Dim | None:
        found = tensor.dims[axis]
        if axis in marks:
            return marks[axis]
        if isinstance(found, int):
            return found
        if found is None:
            if tensor not in self._unnamed:
                self._unnamed.append(tensor)
            return None
        if found not in self._answers.dims:
            self._free.setdefault(found, []).append(tensor.name)
        return self._answers.dims.get(found)


def _checked_axis(flag: str, axis: int, tensor: GraphTensor) -> int:
    """The axis, counted from the front."""
    where = f"{flag} {tensor.name}={axis}: the graph has {tensor}"
    if not -len(tensor.dims) <= axis < len(tensor.dims):
        raise ConfigError(f"{where}, which has no such axis")
    size = tensor.dims[axis]
    if isinstance(size, int):
        raise ConfigError(f"{where}, where it is fixed at {size}: none")
    return axis % len(tensor.dims)
