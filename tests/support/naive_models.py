"""Packages whose forecasts are known without a computer: they repeat what they see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import helper

from support.odd_models import F32, custom_package
from tidegate.model.manifest import InputSpec, OutputSpec, StatePair


def repeating_package(
    repository: Path,
    columns: Sequence[str],
    num_horizons: int,
    *,
    name: str = "repeating",
    width: float = 0.0,
    anomaly: bool = False,
    **manifest: object,
) -> Path:
    """Forecasts every column by its last value, for 1 to `num_horizons` steps ahead.

    Args:
        width: Where above 0, three quantiles so far apart, for 0.1, 0.5 and 0.9.
        anomaly: A second output `anomaly`, which is the first column.
    """
    num_columns = len(columns)
    levels = (0.1, 0.5, 0.9) if width else ()
    spread = np.array([-width, 0, width] if width else [0.0], np.float32)
    tail = (num_horizons, 3) if width else (num_horizons,)
    outputs = [
        OutputSpec(
            name="y",
            dtype=F32,
            shape=("batch", "time", num_columns, *tail),
            features=tuple(columns),
            horizon_steps=tuple(range(1, num_horizons + 1)),
            quantile_levels=levels,
        )
    ]
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axes"], ["x5"]),
        helper.make_node("Add", ["x5", "spread"], ["with_width"]),
        helper.make_node("Reshape", ["with_width", "shape"], ["y"]),
        helper.make_node("Add", ["s", "one"], ["s_next"]),
    ]
    if anomaly:
        outputs.append(OutputSpec(name="anomaly", dtype=F32, shape=("batch", "time")))
        nodes.append(helper.make_node("Gather", ["x", "first"], ["anomaly"], axis=2))
    return custom_package(
        repository,
        name,
        nodes,
        inputs=[
            InputSpec(name="x", dtype=F32, shape=("batch", "time", num_columns), features=tuple(columns))
        ],
        outputs=outputs,
        states=[StatePair(input_name="s", output_name="s_next", dtype=F32, shape=("batch", 1))],
        weights={
            "axes": np.array([3, 4], np.int64),
            "spread": np.broadcast_to(spread, (num_horizons, len(spread))).astype(np.float32),
            "shape": np.array([0, 0, num_columns, *tail], np.int64),
            "one": np.array([1], np.float32),
            "first": np.array(0, np.int64),
        },
        **manifest,
    )
