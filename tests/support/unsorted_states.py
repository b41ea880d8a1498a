"""A package with two states whose names pair up wrongly when either side is sorted."""

from __future__ import annotations

from pathlib import Path

from onnx import helper

from support.odd_models import custom_package
from tidegate.model.manifest import InputSpec, OutputSpec, StatePair
from tidegate.tensor import DType

ROW = ("batch", 2)


def unsorted_package(repository: Path, *, name: str = "unsorted") -> Path:
    """`sum' = sum + x` and `last' = x`, one step at a time; y is [sum', last], so the x before is seen too.

    The graph calls sum `a_in` and `z_out`, and last `b_in` and `y_out`.
    """
    nodes = [
        helper.make_node("Add", ["a_in", "x"], ["z_out"]),
        helper.make_node("Identity", ["x"], ["y_out"]),
        helper.make_node("Concat", ["z_out", "b_in"], ["y"], axis=1),
    ]
    state = {"dtype": DType.FLOAT32, "shape": ROW}
    return custom_package(
        repository,
        name,
        nodes,
        inputs=[InputSpec(name="x", dtype=DType.FLOAT32, shape=ROW)],
        outputs=[OutputSpec(name="y", dtype=DType.FLOAT32, shape=("batch", 4))],
        states=[
            StatePair(input_name="a_in", output_name="z_out", **state),
            StatePair(input_name="b_in", output_name="y_out", **state),
        ],
    )
