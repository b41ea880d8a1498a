"""Lets a model carry its last answers from step to step, so that a forecast can be read from its state.

The server keeps no answers, only states. A state that holds the last answer costs the bytes of one
answer per session and nothing else: the graph copies it out and never reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from tidegate.model.manifest import BATCH, Manifest, OutputSpec, StatePair

SUFFIX = "_last"
"""The state that carries output `y` goes in as `y_last`."""


class Carrying(NamedTuple):
    """A module that carries its answers, and the specs that say so."""

    module: nn.Module
    outputs: list[OutputSpec]
    states: list[StatePair]


def carry_last_answers(
    module: nn.Module, outputs: Sequence[OutputSpec], states: Sequence[StatePair]
) -> Carrying:
    """Wrap a module so that the last answers of all of its outputs are states, behind its own.

    Args:
        module: As `export_package` takes it; its outputs mark the batch first and the time second.
        outputs: What it gives.
        states: What it carries.
    """
    pairs = [
        StatePair(
            input_name=o.name + SUFFIX,
            output_name=f"{o.name}{SUFFIX}_next",
            dtype=o.dtype,
            shape=(BATCH, *o.step_shape),
        )
        for o in outputs
    ]
    carried = [o.model_copy(update={"carried_as": o.name + SUFFIX}) for o in outputs]
    return Carrying(_LastAnswers(module, outputs), carried, [*states, *pairs])


def with_unread_states(graph: bytes, manifest: Manifest) -> bytes:
    """The graph with inputs for the carried answers; an exporter leaves out what nothing reads."""
    carried = {o.carried_as for o in manifest.outputs}
    model = onnx.load_from_string(graph)
    present = {i.name for i in model.graph.input}
    for pair in (s for s in manifest.states if s.input_name in carried - present):
        element = helper.np_dtype_to_tensor_dtype(pair.dtype.numpy)
        model.graph.input.append(helper.make_tensor_value_info(pair.input_name, element, pair.shape))
    return bytes(model.SerializeToString()) if carried - present - {""} else graph


class _LastAnswers(nn.Module):
    """The module, with its answers to the last step given once more as states."""

    def __init__(self, module: nn.Module, outputs: Sequence[OutputSpec]) -> None:
        super().__init__()
        self.module = module
        self.train(module.training)
        self.has_time_axis = outputs[0].time_axis is not None
        self.num_outputs = len(outputs)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Inputs, states and last answers in; outputs, states and new last answers out."""
        given: tuple[Tensor, ...] = self.module(*tensors[: -self.num_outputs])
        answers = given[: self.num_outputs]
        # A tensor of its own: a graph cannot give one value under two names.
        return (*given, *(y[:, -1] if self.has_time_axis else torch.clone(y) for y in answers))
