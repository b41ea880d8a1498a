"""Runs steps of the sessions of one model version; owns its graph and its arena.

The rest of the server sees slots, inputs and outputs. How many rows and steps share one ONNX Runtime
run follows from what the probe proved; a model that is not batch-exact is run one row or one step at a
time, and its answers are right all the same.

A step that fails leaves every state as it was: states are written back once, at the end.

Not thread-safe: the engine makes one call at a time, from whichever thread it likes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from tidegate.errors import InvalidRequest
from tidegate.model.manifest import Manifest
from tidegate.model.package import ModelPackage
from tidegate.runner.carried import check_carried
from tidegate.runner.graph import Graph
from tidegate.runner.ort import Device, is_refused_by_a_node
from tidegate.runner.places import PLACES
from tidegate.runner.probe import Exactness, probe
from tidegate.runner.slots import Twins
from tidegate.tensor import Array, SlotArray


class BatchExactness(StrEnum):
    """How promise P1 stands for a loaded version."""

    EXACT = "exact"
    """Bit-identical however it is batched."""

    SERIAL = "serial"
    """Not exact in batches or chunks, so not run that way."""

    OFF = "off"
    """Not exact, and batched because the manifest says so."""


@dataclass(frozen=True, kw_only=True)
class RunnerOptions:
    """How a version is loaded."""

    device: Device = "cpu"
    intra_op_threads: int = 1
    max_batch_size: int = 256
    max_slice_steps: int = 32
    max_sessions: int = 65536


class Runner:
    """One loaded model version.

    Attributes:
        manifest: What it takes, gives and carries.
        exactness: What the probe found.
        batch_exactness: What follows from it for promise P1.
        rows_together: Several rows share a run.
        steps_together: Several steps of a row share a run.
        arena: The states of its sessions.
        max_slice_steps: Steps of one row that run before others get their turn.
        load_s: Seconds that loading and probing took.
        warmup_s: Seconds that the warm-up took.
    """

    def __init__(self, package: ModelPackage, options: RunnerOptions) -> None:
        """Load, check, probe and warm up.

        Raises:
            PackageError: The graph is not what the manifest says.
            ConfigError: The device cannot hold the states of `max_sessions` sessions.
            DeviceUnavailable: The device does not start.
        """
        started = time.perf_counter()
        self.manifest: Manifest = package.manifest
        self.device: Device = options.device
        self._graph = Graph(package, device=options.device, threads=options.intra_op_threads)
        self._graph.dry_run(package.initial_states)
        check_carried(self._graph, package.initial_states)
        self.exactness: Exactness = probe(
            self._graph, max_rows=options.max_batch_size, max_steps=options.max_slice_steps
        )
        self.batch_exactness = _consequence(self.manifest, self.exactness)
        self.arena, self._run_graph = PLACES[options.device](
            self._graph, package.initial_states, options.max_sessions
        )
        shared = self.batch_exactness is BatchExactness.OFF
        self.rows_together: bool = self.manifest.has_batch_axis and (self.exactness.rows or shared)
        self.steps_together: bool = self.manifest.has_time_axis and (self.exactness.steps or shared)
        self._twins = Twins(options.max_sessions)
        self.max_slice_steps = options.max_slice_steps
        loaded = time.perf_counter()
        self._warm_up(options.max_batch_size)
        self.load_s, self.warmup_s = loaded - started, time.perf_counter() - loaded

    def step(self, slots: SlotArray, inputs: Sequence[Array]) -> list[Array]:
        """Advance sessions by the same number of steps.

        Args:
            slots: Shape (n,), int32, no two alike.
            inputs: One array per model input, `[n, T, step_shape...]`.

        Returns:
            One array per model output, `[n, T, step_shape...]`.

        Raises:
            InvalidRequest: A node of the graph refuses the values of a row; nobody has advanced.
        """
        # Two rows of one session would both start from the same state.
        assert not self._twins.among(slots), "a batch holds one session twice"
        if not self.rows_together and len(slots) > 1:
            return self._step_row_by_row(slots, inputs)
        location = self.arena.locate(slots)
        outputs, states = self._advance(inputs, self.arena.gather(location))
        self.arena.scatter(location, states)
        return outputs

    def copy_states(self, slots: SlotArray) -> list[Array]:
        """Copies of states, as `roll` takes and gives them: where the graph runs, in its own layout."""
        return self.arena.gather(self.arena.locate(slots))

    def roll(self, inputs: Sequence[Array], states: list[Array]) -> tuple[list[Array], list[Array]]:
        """Run steps on states that are nobody's: no session advances.

        Args:
            inputs: One array per model input, `[n, T, step_shape...]`.
            states: Of n rows, from `copy_states` or an earlier roll; n is 1 unless rows may share a run.

        Returns:
            One array per model output, `[n, T, step_shape...]`, and the states after the last step.

        Raises:
            InvalidRequest: A node of the graph refuses the values of a row.
        """
        return self._advance(inputs, states)

    def check_integrity(self) -> None:
        """Raise AssertionError if the padding slot, which no session owns, has been written."""
        assert self.arena.is_initial(0), "slot 0 was written: a batch held a slot that nobody owns"

    def _advance(self, inputs: Sequence[Array], states: list[Array]) -> tuple[list[Array], list[Array]]:
        num_steps = inputs[0].shape[1]
        if self.steps_together or num_steps == 1:
            return self._run(inputs, states)
        pieces = []
        for t in range(num_steps):
            outputs, states = self._run([np.ascontiguousarray(x[:, t : t + 1]) for x in inputs], states)
            pieces.append(outputs)
        return [np.concatenate(parts, axis=1) for parts in zip(*pieces, strict=True)], states

    def _run(self, inputs: Sequence[Array], states: list[Array]) -> tuple[list[Array], list[Array]]:
        try:
            return self._run_graph(inputs, states)
        except InvalidArgument as error:
            if not is_refused_by_a_node(error):
                raise
            raise InvalidRequest(
                f"inputs: {self.manifest.label} cannot run these values: a node of its graph refuses them, as a table "
                "does an index that it does not have"
            ) from error

    def _step_row_by_row(self, slots: SlotArray, inputs: Sequence[Array]) -> list[Array]:
        locations = [self.arena.locate(slots[i : i + 1]) for i in range(len(slots))]
        rows = [
            self._advance([x[i : i + 1] for x in inputs], self.arena.gather(location))
            for i, location in enumerate(locations)
        ]
        joined = [np.concatenate(parts) for parts in zip(*(outputs for outputs, _ in rows), strict=True)]
        for location, (_, states) in zip(locations, rows, strict=True):
            self.arena.scatter(location, states)
        return joined

    def _warm_up(self, max_batch_size: int) -> None:
        """Run every power of two once, so that ONNX Runtime has its memory plans before the first client."""
        width = 1
        while width <= (max_batch_size if self.rows_together else 1):
            states = self.arena.gather(self.arena.locate(np.zeros(width, np.int32)))
            inputs = [np.zeros((width, 1, *i.step_shape), i.dtype.numpy) for i in self.manifest.inputs]
            self._advance(inputs, states)
            width *= 2


def _consequence(manifest: Manifest, exactness: Exactness) -> BatchExactness:
    if exactness.exact:
        return BatchExactness.EXACT
    return BatchExactness.OFF if manifest.batching == "always" else BatchExactness.SERIAL
