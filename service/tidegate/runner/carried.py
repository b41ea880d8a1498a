"""Proves at load that a state which is said to carry an output's last answer does.

A forecast is read from such a state, so a manifest that names the wrong one would serve wrong numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tidegate.errors import PackageError
from tidegate.runner.graph import Graph
from tidegate.runner.probe import SEED, draw_input
from tidegate.tensor import Array

NUM_STEPS = 3
"""Steps in the run, where the graph takes several: the state must hold the last answer of them."""


def check_carried(graph: Graph, initial_states: Sequence[Array]) -> None:
    """Compare carried answers with the answers, bit for bit, on random inputs.

    Args:
        graph: Its outputs and states have passed the dry run.
        initial_states: One array per state pair, shape `step_shape`.

    Raises:
        PackageError: A state holds something else.
    """
    manifest = graph.manifest
    if not any(o.carried_as for o in manifest.outputs):
        return
    rng = np.random.default_rng(SEED)
    num_steps = NUM_STEPS if manifest.has_time_axis else 1
    inputs = [draw_input(rng, i, (1, num_steps, *i.step_shape), 1.0) for i in manifest.inputs]
    states = [
        np.ascontiguousarray(s.reshape(pair.graph_shape(1, 1)))
        for s, pair in zip(initial_states, manifest.states, strict=True)
    ]
    outputs, states = graph.run(inputs, states)
    by_name = {pair.input_name: state for pair, state in zip(manifest.states, states, strict=True)}
    for spec, output in zip(manifest.outputs, outputs, strict=True):
        if spec.carried_as and by_name[spec.carried_as].tobytes() != output[:, -1].tobytes():
            raise PackageError(
                f"{manifest.label}: state {spec.carried_as!r}: expected the answer of output {spec.name!r} to the "
                "last step, as carried_as says, got something else"
            )
