"""Export a PyTorch module of your own: an LSTM that says how surprising each value is.

    python examples/export_your_own.py models && tidegate serve --models models

The state is whatever you carry: here h and c of the LSTM, and the forecast for the next step. The graph
is checked against the module before anything is written.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from tidegate.model.manifest import InputSpec, OutputSpec, StatePair
from tidegate.training.export import export_package

HIDDEN = 32


class Surprise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, HIDDEN, batch_first=True)
        self.forecast = nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor, expected: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        """x [batch, time, 1]: inputs first, then states; outputs first, then the states after them."""
        hidden, (h, c) = self.lstm(x, (h, c))
        forecasts = self.forecast(hidden)
        before = torch.cat([expected, forecasts], 1)  # what was expected of each step, one step earlier
        return torch.abs(x - before[:, :-1]), before[:, -1:], h, c


def main(repository: Path) -> None:
    torch.manual_seed(1)
    module = Surprise()  # train it here

    path = export_package(
        module,
        repository=repository,
        name="surprise",
        version="1",
        inputs=[InputSpec(name="x", dtype="float32", shape=["batch", "time", 1], features=["value"])],
        outputs=[OutputSpec(name="surprise", dtype="float32", shape=["batch", "time", 1])],
        states=[
            StatePair(
                input_name="expected", output_name="expected_next", dtype="float32", shape=["batch", 1, 1]
            ),
            StatePair(input_name="h", output_name="h_next", dtype="float32", shape=[1, "batch", HIDDEN]),
            StatePair(input_name="c", output_name="c_next", dtype="float32", shape=[1, "batch", HIDDEN]),
        ],
    )
    print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "models"))
