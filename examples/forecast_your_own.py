"""Forecast with a PyTorch module of your own: last year's values, and how far this year lies above them.

    python examples/forecast_your_own.py models
    tidegate evaluate drift models/co2-weekly/co2.csv --from 1996-01-01 --season-steps 52
    tidegate serve --models models

The state is a year of values and the drift. `horizon_steps` says what an answer looks ahead to;
`carry_last_answers` lets `tidegate forecast` read the last answer from a session's state.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from tidegate.model.forecast import DirectRules
from tidegate.model.manifest import InputSpec, OutputSpec, StatePair, TimeRules
from tidegate.training.carrying import carry_last_answers
from tidegate.training.export import export_package

YEAR, AHEAD = 52, 26


class Drift(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(0.1))  # train it here

    def forward(self, x: Tensor, year: Tensor, drift: Tensor) -> tuple[Tensor, ...]:
        """x [batch, 1], year [batch, 52] with the oldest value first, drift [batch, 1]."""
        drift = drift + self.rate * (x - year[:, :1] - drift)
        year = torch.cat([year[:, 1:], x], 1)
        return year[:, :AHEAD] + drift, year, drift


def main(repository: Path) -> None:
    column = {"dtype": "float32", "features": ["co2_ppm"], "units": ["ppm"]}
    answer = OutputSpec(name="forecast", shape=["batch", AHEAD], horizon_steps=range(1, AHEAD + 1), **column)
    states = [
        StatePair(input_name=name, output_name=f"{name}_next", dtype="float32", shape=["batch", width])
        for name, width in (("year", YEAR), ("drift", 1))
    ]
    carrying = carry_last_answers(Drift(), [answer], states)
    path = export_package(
        carrying.module,
        repository=repository,
        name="drift",
        version="1",
        inputs=[InputSpec(name="x", shape=["batch", 1], **column)],
        outputs=carrying.outputs,
        states=carrying.states,
        time=TimeRules(column="week", cadence_s=604800, missing="repeat-last"),
        forecast=DirectRules(mode="direct", outputs=["forecast"]),
    )
    print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "models"))
