"""One set of weights for all columns: the cells run on each as if it were a session of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tidegate.model.manifest import BATCH, Dim
from tidegate.training.cells import RecurrentStack
from tidegate.training.states import Carried


class SharedCells(nn.Module):
    """Cells that see one column at a time, and which it is; their states have an axis for the columns."""

    which: Tensor

    def __init__(self, cells: RecurrentStack, num_columns: int) -> None:
        """Share the cells, whose inputs are those of one column and then one for each of the columns."""
        super().__init__()
        self.cells = cells
        self.has_time_loop = cells.has_time_loop
        self.num_columns = num_columns
        self.register_buffer("which", torch.eye(num_columns))

    @property
    def carried(self) -> tuple[Carried, ...]:
        """The cells' states, one for each column."""
        layers, hidden_size = self.cells.state_shape
        shape: tuple[Dim, ...] = (layers, BATCH, self.num_columns, hidden_size)
        return tuple(Carried(name, shape) for name in self.cells.state_names)

    def forward(self, z: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Run the columns side by side.

        Args:
            z: What is known of each column, [B, T, C, N].
            state: Each [layers, B, C, H].

        Returns:
            Outputs and what the cells saw, [B, T, C, H + N + C], and the states after the last step.
        """
        # Not zeros_like, which the exporter would freeze to the example's batch.
        z = torch.cat([z, z[..., :1] * 0 + self.which], -1)
        rows = z.transpose(1, 2).flatten(0, 1)
        hidden, *after = self.cells(rows, *(s.flatten(1, 2) for s in state))
        told = torch.cat([hidden, rows], -1)
        split = nn.Unflatten(0, (-1, self.num_columns))
        apart = nn.Unflatten(1, (-1, self.num_columns))
        return split(told).transpose(1, 2), *(apart(s) for s in after)
