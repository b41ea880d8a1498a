"""Packages that can be forecast: an LSTM that feeds its answer back, and a model that looks ahead by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper

from support.odd_models import F32, custom_package
from tidegate.model.manifest import InputSpec, OutputSpec, StatePair

HIDDEN = 8
VALUE_BACK = {
    "mode": "feedback",
    "pairs": ({"input": "x", "input_feature": "value", "output": "y", "quantile_level": 0.5},),
}


def feedback_package(
    repository: Path, *, name: str = "feedback", carried: bool = True, plan: bool = False, **manifest: object
) -> Path:
    """An LSTM on `x` [value, season] (and `plan` [1]) that answers three quantiles of the next value.

    Args:
        carried: The last answer is a state, so that a forecast needs no first value.
        plan: A second input, which is never fed back.
    """
    inputs = [
        InputSpec(name="x", dtype=F32, shape=("batch", "time", 2), features=("value", "season")),
        *([InputSpec(name="plan", dtype=F32, shape=("batch", "time", 1))] if plan else []),
    ]
    states = [_state(s, (1, "batch", HIDDEN)) for s in ("h", "c")]
    nodes = [
        helper.make_node(
            "Concat" if plan else "Identity", ["x", "plan"] if plan else ["x"], ["z"], **_axis(plan)
        ),
        helper.make_node("Transpose", ["z"], ["zt"], perm=[1, 0, 2]),
        helper.make_node(
            "LSTM", ["zt", "w", "r", "b", "", "h", "c"], ["y4", "h_out", "c_out"], hidden_size=HIDDEN
        ),
        helper.make_node("Squeeze", ["y4", "one"], ["y3"]),
        helper.make_node("Transpose", ["y3"], ["hidden"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["hidden", "head"], ["quantiles"]),
        helper.make_node("Reshape", ["quantiles", "y_shape"], ["y"]),
    ]
    if carried:
        states.append(_state("y_last", ("batch", 1, 3)))
        nodes.append(helper.make_node("Gather", ["y", "last"], ["y_last_out"], axis=1))
    return custom_package(
        repository,
        name,
        nodes,
        inputs=inputs,
        outputs=[
            OutputSpec(
                name="y",
                dtype=F32,
                shape=("batch", "time", 1, 3),
                features=("value",),
                horizon_steps=(1,),
                quantile_levels=(0.1, 0.5, 0.9),
                carried_as="y_last" if carried else "",
            )
        ],
        states=states,
        weights=_weights(3 if plan else 2),
        **({"forecast": VALUE_BACK} | manifest),
    )


def direct_package(
    repository: Path, *, name: str = "direct", carrier: str = "y_last_out", **manifest: object
) -> Path:
    """`h' = h + x; y = h' * [1, 2, 3]`, said to look 1, 2 and 4 steps ahead.

    Args:
        carrier: The tensor that comes out as the last answer; "zero" is not it.
    """
    return custom_package(
        repository,
        name,
        [
            helper.make_node("Add", ["h", "x"], ["h_out"]),
            helper.make_node("Mul", ["h_out", "factors"], ["y"]),
            helper.make_node("Mul", ["y", "one" if carrier == "y_last_out" else "zero"], ["y_last_out"]),
        ],
        inputs=[InputSpec(name="x", dtype=F32, shape=("batch", 1))],
        outputs=[
            OutputSpec(name="y", dtype=F32, shape=("batch", 3), horizon_steps=(1, 2, 4), carried_as="y_last")
        ],
        states=[_state("h", ("batch", 1)), _state("y_last", ("batch", 3))],
        weights={
            "factors": np.array([1, 2, 3], np.float32),
            "one": np.array(1, np.float32),
            "zero": np.array(0, np.float32),
        },
        **({"forecast": {"mode": "direct", "outputs": ("y",)}} | manifest),
    )


def _weights(num_features: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    drawn = {
        "w": (1, 4 * HIDDEN, num_features),
        "r": (1, 4 * HIDDEN, HIDDEN),
        "b": (1, 8 * HIDDEN),
        "head": (HIDDEN, 3),
    }
    return {
        **{name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in drawn.items()},
        "one": np.array([1], np.int64),
        "last": np.array(-1, np.int64),
        "y_shape": np.array([0, 0, 1, 3], np.int64),
    }


def _state(name: str, shape: tuple[int | str, ...]) -> StatePair:
    return StatePair.model_validate(
        {"input_name": name, "output_name": f"{name}_out", "dtype": F32, "shape": shape}
    )


def _axis(plan: bool) -> dict[str, int]:
    return {"axis": 2} if plan else {}
