"""What an ONNX graph says of itself: the names, types and dimensions of what it takes and gives.

It says less than a manifest: not which tensors are carried, nor which axis is the batch or the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.tensor import DType, format_shape

GraphDim = int | str | None
"""A size, the name of one that is free, or neither."""


@dataclass(frozen=True)
class GraphTensor:
    """An input or output of a graph.

    Attributes:
        name: Its name.
        dtype: Its element type; None for one that models may not use here.
        type_name: The type as the runtime spells it.
        dims: Its dimensions. Empty for a scalar, and for a tensor whose dimensions the file does not
            tell: the runtime does not tell these two apart.
    """

    name: str
    dtype: DType | None
    type_name: str
    dims: tuple[GraphDim, ...]

    def __str__(self) -> str:
        dims = format_shape(["?" if d is None else d for d in self.dims])
        return f"{self.name}: {self.dtype or self.type_name} {dims}"


@dataclass(frozen=True)
class Signature:
    """Everything that a graph must be given and can give, in its order.

    Attributes:
        inputs: By name; without those that have a value in the file.
        outputs: By name.
    """

    inputs: Mapping[str, GraphTensor]
    outputs: Mapping[str, GraphTensor]
