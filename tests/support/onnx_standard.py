"""The ONNX standard's own tests of its recurrent operators, as models that carry their state.

The standard's graphs take their weights as inputs and drop their state. Here the weights are constants, as
in any exported file, and what the operator starts from and ends with are the states of the manifest. The
node with its attributes and all numbers are the standard's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
from onnx.backend.test.case import node as standard

from support.foreign_model import FLOAT, ForeignModel, onnx_bytes

WEIGHTS = ("W", "R", "B", "P")
TAKES: Mapping[str, tuple[str, ...]] = {
    "LSTM": ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"),
    "GRU": ("X", "W", "R", "B", "sequence_lens", "initial_h"),
    "RNN": ("X", "W", "R", "B", "sequence_lens", "initial_h"),
}
STATES: Mapping[str, Mapping[str, str]] = {
    "LSTM": {"initial_h": "Y_h", "initial_c": "Y_c"},
    "GRU": {"initial_h": "Y_h"},
    "RNN": {"initial_h": "Y_h"},
}


@dataclass(frozen=True, kw_only=True)
class StandardTest:
    """One test of the standard.

    Attributes:
        name: Its name.
        node: The operator with its attributes.
        takes: What it is given, by the standard's names.
        gives: What it must give.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
    """

    name: str
    node: onnx.NodeProto
    takes: dict[str, np.ndarray]
    gives: dict[str, np.ndarray]
    rtol: float
    atol: float

    @property
    def is_batch_first(self) -> bool:
        """Its attribute `layout` is 1."""
        return any(a.name == "layout" and a.i for a in self.node.attribute)

    @property
    def is_forward(self) -> bool:
        """It reads the steps in their order only."""
        return not any(a.name == "direction" and a.s != b"forward" for a in self.node.attribute)

    @property
    def rows(self) -> np.ndarray:
        """X as the server takes it: [n, T, features]."""
        x = self.takes["X"]
        return np.ascontiguousarray(x if self.is_batch_first else x.transpose(1, 0, 2))

    def package(self, repository: Path) -> Path:
        """Write it as a package over time: X to Y, with its states carried."""
        states = STATES[self.node.op_type]
        weights = {n: v for n, v in self.takes.items() if n in WEIGHTS}
        cell = onnx.NodeProto()
        cell.CopyFrom(self.node)
        cell.input[:] = [n if n in ("X", *states, *weights) else "" for n in TAKES[self.node.op_type]]
        cell.output[:] = ["Y", *states.values()]
        ways, (_, _, features) = len(weights["W"]), self.takes["X"].shape
        hidden = self.takes["R"].shape[2]
        shapes: dict[str, list[int | str]] = {
            "X": ["T", "N", features],
            "Y": ["T", ways, "N", hidden],
            "state": [ways, "N", hidden],
        }
        if self.is_batch_first:
            shapes = {
                "X": ["N", "T", features],
                "Y": ["N", "T", ways, hidden],
                "state": ["N", ways, hidden],
            }
        carried = (FLOAT, shapes["state"])
        model = ForeignModel(
            onnx=onnx_bytes(
                [cell],
                {"X": (FLOAT, shapes["X"]), **dict.fromkeys(states, carried)},
                {"Y": (FLOAT, shapes["Y"]), **dict.fromkeys(states.values(), carried)},
                weights,
            ),
            inputs=("X",),
            states=states,
        )
        return model.package(repository, self.name)


def standard_tests() -> list[StandardTest]:
    """The tests of LSTM, GRU and RNN, as this version of `onnx` has them."""
    for module in ("lstm", "gru", "rnn"):
        import_module(f"{standard.__name__}.{module}")
    return [_read(c) for c in standard._NodeTestCases if c.model.graph.node[0].op_type in TAKES]


def _read(case: standard.TestCase) -> StandardTest:
    graph, [(takes, gives)] = case.model.graph, case.data_sets
    test = StandardTest(
        name=case.name,
        node=graph.node[0],
        takes=dict(zip([i.name for i in graph.input], takes, strict=True)),
        gives=dict(zip([o.name for o in graph.output], gives, strict=True)),
        rtol=case.rtol,
        atol=case.atol,
    )
    # What the packages leave out changes nothing: whole rows, from zeros.
    num_steps = len(test.takes["X"])
    assert np.all(test.takes.get("sequence_lens", num_steps) == num_steps)
    assert not any(test.takes[n].any() for n in STATES[test.node.op_type] if n in test.takes)
    return test
