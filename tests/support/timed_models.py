"""A model of a load that masks what is missing and knows the hour, and series with all that can go wrong."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from support.odd_models import F32, custom_package
from tidegate.model.manifest import InputSpec, OutputSpec, StatePair, TimeRules

MODEL = "timed"
HIDDEN = 8
FEATURES = ("load", "hour_of_day_sin", "hour_of_day_cos")
RULES = TimeRules(
    column="time",
    cadence_s=3600,
    missing="mask",
    max_gap_steps=4,
    out_of_order="drop",
    calendar=("hour-of-day",),
    time_zone="Europe/Vienna",
)
START = datetime(2024, 3, 25)
"""So that a series of a week or more runs through the night in which the clocks are changed."""


def timed_package(repository: Path, *, rules: TimeRules = RULES) -> Path:
    """An LSTM on `x` with NaN masked that answers the next load, which can be fed back."""
    rng = np.random.default_rng(11)
    width = 2 * len(FEATURES)
    weights = {
        "w": rng.normal(0, 0.5, (1, 4 * HIDDEN, width)),
        "r": rng.normal(0, 0.5, (1, 4 * HIDDEN, HIDDEN)),
        "b": rng.normal(0, 0.5, (1, 8 * HIDDEN)),
        "head": rng.normal(0, 0.5, (HIDDEN, 1)),
        "zero": np.array(0),
    }
    nodes = [
        helper.make_node("IsNaN", ["x"], ["is_missing"]),
        helper.make_node("Where", ["is_missing", "zero", "x"], ["known"]),
        helper.make_node("Cast", ["is_missing"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["known", "mask"], ["z"], axis=2),
        helper.make_node("Transpose", ["z"], ["zt"], perm=[1, 0, 2]),
        helper.make_node(
            "LSTM", ["zt", "w", "r", "b", "", "h", "c"], ["y4", "h_out", "c_out"], hidden_size=HIDDEN
        ),
        helper.make_node("Squeeze", ["y4", "one"], ["y3"]),
        helper.make_node("Transpose", ["y3"], ["hidden"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["hidden", "head"], ["y"]),
        helper.make_node("Gather", ["y", "last"], ["y_last_out"], axis=1),
    ]
    return custom_package(
        repository,
        MODEL,
        nodes,
        inputs=[
            InputSpec(
                name="x", dtype=F32, shape=("batch", "time", 3), features=FEATURES, accepts_missing=True
            )
        ],
        outputs=[
            OutputSpec(
                name="y", dtype=F32, shape=("batch", "time", 1), features=("load",), carried_as="y_last"
            )
        ],
        states=[
            *(_state(name, (1, "batch", HIDDEN)) for name in ("h", "c")),
            _state("y_last", ("batch", 1)),
        ],
        weights={name: value.astype(np.float32) for name, value in weights.items()}
        | {"one": np.array([1], np.int64), "last": np.array(-1, np.int64)},
        time=rules,
        forecast={"mode": "feedback", "pairs": ({"input": "x", "input_feature": "load", "output": "y"},)},
    )


def broken_series(num_rows: int, rng: np.random.Generator) -> list[str]:
    """Lines of a CSV file: gaps, some of them too long, times that repeat or go back, cells without a number."""
    lines, time = ["time,load\n"], START
    kinds = rng.choice(["next", "gap", "chasm", "again", "back"], num_rows, p=[0.7, 0.15, 0.03, 0.07, 0.05])
    for kind in kinds:
        hours = {"next": 1, "gap": rng.integers(2, 6), "chasm": 9, "again": 0, "back": -2}[kind]
        stamp = time + timedelta(hours=int(hours))
        time = max(time, stamp)
        cell = rng.choice(["", "broken", f"{rng.normal():.3f}"], p=[0.1, 0.04, 0.86])
        lines.append(f"{stamp.isoformat()}Z,{cell}\n")
    return lines


def _state(name: str, shape: tuple[int | str, ...]) -> StatePair:
    return StatePair.model_validate(
        {"input_name": name, "output_name": f"{name}_out", "dtype": F32, "shape": shape}
    )
