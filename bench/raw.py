"""Raw ONNX Runtime: `session.run` on batches that lie ready, one thread, in a process of its own.

The floor under every figure: nobody gathers states, checks numbers or sends anything.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path

import numpy as np

from bench.processes import Worker, answer
from tidegate.model.manifest import Manifest
from tidegate.model.package import read_package
from tidegate.runner.ort import make_session, treat_denormals_as_zero
from tidegate.tensor import Array

NUM_READY = 4
"""Batches that take turns, so that not one and the same lies in the cache."""

WARM_UP_RUNS = 20


@dataclass(frozen=True)
class RawSlice:
    """What raw ONNX Runtime did in one slice.

    Attributes:
        rows: Rows stepped once.
        cpu_s: CPU-seconds of the process.
        wall_s: Seconds.
        median_run_s: Half of the runs took no longer.
    """

    rows: int
    cpu_s: float
    wall_s: float
    median_run_s: float

    @property
    def cpu_s_per_row(self) -> float:
        """CPU-seconds of one row."""
        return self.cpu_s / self.rows

    @property
    def rows_per_s(self) -> float:
        """Rows per second."""
        return self.rows / self.wall_s


class RawWorker(Worker):
    """Raw ONNX Runtime in a process of its own."""

    def __init__(self, core: int, package: Path, *, log: Path) -> None:
        super().__init__(core, "bench.raw", [str(package)], log=log)

    def slice(self, batch: int, duration_s: float) -> RawSlice:
        """Run ready batches of `batch` rows for a while."""
        return RawSlice(**self.ask(batch=batch, duration_s=duration_s))


def cpu_s_per_row(raw: RawWorker, mean_batch: float, duration_s: float) -> float:
    """Raw CPU of a row at a batch that need not be whole: a run's cost is a straight line in between."""
    lower, upper = floor(mean_batch), ceil(mean_batch)
    at_lower = raw.slice(lower, duration_s / 2).cpu_s_per_row * lower
    at_upper = raw.slice(upper, duration_s / 2).cpu_s_per_row * upper
    share = mean_batch - lower
    return (at_lower * (1 - share) + at_upper * share) / mean_batch


class RawModel:
    """A model version without a server."""

    def __init__(self, package: Path) -> None:
        read = read_package(package)
        self._manifest: Manifest = read.manifest
        self._session = make_session(read.onnx, device="cpu", threads=1, label=read.manifest.label)
        self._fetches = [o.name for o in self._manifest.outputs]
        self._fetches += [s.output_name for s in self._manifest.states]

    def ready_batch(self, num_rows: int, rng: np.random.Generator) -> dict[str, Array]:
        """Inputs of one step and states in the range that an LSTM's stay in."""
        specs = [(i.name, i.graph_shape(num_rows, 1)) for i in self._manifest.inputs]
        specs += [(s.input_name, s.graph_shape(num_rows, 1)) for s in self._manifest.states]
        return {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in specs}

    def run(self, feeds: dict[str, Array]) -> None:
        """One step of a batch."""
        self._session.run(self._fetches, feeds)


def measure(model: RawModel, batch: int, duration_s: float) -> RawSlice:
    """Run ready batches for a while."""
    rng = np.random.default_rng(1)
    feeds = [model.ready_batch(batch, rng) for _ in range(NUM_READY)]
    for i in range(WARM_UP_RUNS):
        model.run(feeds[i % NUM_READY])
    runs_s: list[float] = []
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    end_s = before_s = start_s
    while end_s - start_s < duration_s:
        model.run(feeds[len(runs_s) % NUM_READY])
        before_s, end_s = end_s, time.perf_counter()
        runs_s.append(end_s - before_s)
    cpu_s = time.process_time() - start_cpu_s
    return RawSlice(len(runs_s) * batch, cpu_s, end_s - start_s, float(np.median(runs_s)))


def main() -> None:
    """Answer `{"batch", "duration_s"}` until standard input ends."""
    treat_denormals_as_zero()
    model = RawModel(Path(sys.argv[1]))
    for line in sys.stdin:
        request = json.loads(line)
        answer(vars(measure(model, int(request["batch"]), request["duration_s"])))


if __name__ == "__main__":
    main()
