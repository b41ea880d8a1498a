"""What a module of the network carries from step to step, and how it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tidegate.model.manifest import BATCH, Dim, InitialFile, InitialValue, StatePair
from tidegate.tensor import Array, DType


@dataclass(frozen=True)
class Carried:
    """One state of a module, float32.

    Attributes:
        name: Its input's name in the graph.
        shape: With the batch axis marked.
        initial: Its value in a session without steps: a number, or an array of the shape without the batch.
    """

    name: str
    shape: tuple[Dim, ...]
    initial: float | Array = 0.0

    def pair(self) -> StatePair:
        """The state as the manifest has it."""
        initial: InitialFile | InitialValue | None = None
        if not isinstance(self.initial, float):
            initial = InitialFile(file=f"{self.name}.npy")
        elif self.initial:
            initial = InitialValue(value=self.initial)
        return StatePair(
            input_name=self.name,
            output_name=f"{self.name}_next",
            dtype=DType.FLOAT32,
            shape=self.shape,
            initial=initial or "zeros",
        )

    def start(self, batch: int) -> Tensor:
        """The state of `batch` rows without steps, with the batch axis where the shape marks it."""
        value = torch.as_tensor(self.initial, dtype=torch.float32)
        if value.dim():
            value = value.unsqueeze(self.shape.index(BATCH))
        return value.expand([batch if dim == BATCH else int(dim) for dim in self.shape]).clone()


class Carrier(Protocol):
    """A module that carries states."""

    @property
    def carried(self) -> tuple[Carried, ...]:
        """In the order of its arguments."""


def split_states(carriers: Sequence[Carrier], states: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    """The states of each carrier, from those of all of them in order."""
    parts, start = [], 0
    for carrier in carriers:
        end = start + len(carrier.carried)
        parts.append(states[start:end])
        start = end
    return parts
