"""What an engine counts: metrics, with the labels of its model version resolved once, and totals by row.

A frame is a message of a stream or what a door makes of several requests, so whoever asks how requests fared is
told of rows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tidegate.engine.frame import EngineFrame, Part
from tidegate.telemetry.metrics import Metrics


@dataclass(slots=True)
class Tally:
    """How often something happened, and how long it took in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, count: int, seconds: float) -> None:
        """Count `count` times that took `seconds` in all."""
        self.count += count
        self.seconds += seconds


@dataclass(slots=True)
class Totals:
    """What one model version has done since it was loaded.

    Attributes:
        answered: Rows whose last step was answered; from arrival to that answer.
        refused: Rows that were accepted and then refused; from arrival to the refusal.
        queued: The rows answered; from arrival to the start of their frame's first run.
        run: The rows answered; in runs.
        batches: Model runs, by the number of their rows.
        last_run_s: Unix time of the end of the last run; 0 before the first.
    """

    answered: Tally = field(default_factory=Tally)
    refused: Tally = field(default_factory=Tally)
    queued: Tally = field(default_factory=Tally)
    run: Tally = field(default_factory=Tally)
    batches: dict[int, Tally] = field(default_factory=dict)
    last_run_s: float = 0.0


class EngineMeter:
    """Counters of one model version.

    Attributes:
        totals: What it has done so far.
    """

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
        self.totals = Totals()
        self._batch_rows = metrics.batch_rows.labels(model, version)
        self._steps = metrics.steps.labels(model, version)
        self._rows = metrics.rows.labels(model, version)
        self._frames = metrics.frames.labels(model, version)
        self._queue = metrics.frame_queue.labels(model, version)
        self._run = metrics.frame_run.labels(model, version)
        self._total = metrics.frame_total.labels(model, version)

    def batch(self, num_rows: int, num_steps: int, run_s: float) -> None:
        """A batch has run."""
        self._batch_rows.observe(num_rows)
        self._steps.inc(num_rows * num_steps)
        batches = self.totals.batches
        tally = batches.get(num_rows)
        if tally is None:
            tally = batches[num_rows] = Tally()
        tally.add(1, run_s)
        self.totals.last_run_s = time.time()

    def answered(self, frame: EngineFrame, part: Part, now_s: float) -> None:
        """Rows have been answered; for their last steps, or for some before."""
        total_s = now_s - frame.arrived_s
        if part.complete:
            self._frames.inc()
            self._queue.observe(part.queue_s)
            self._run.observe(part.run_s)
            self._total.observe(total_s)
        if part.step_offset + part.num_steps == frame.num_steps:
            count, totals = part.num_rows, self.totals
            self._rows.inc(count)
            totals.answered.add(count, count * total_s)
            totals.queued.add(count, count * part.queue_s)
            totals.run.add(count, count * part.run_s)

    def refused(self, frame: EngineFrame, count: int, now_s: float) -> None:
        """Rows that were accepted have been refused."""
        self.totals.refused.add(count, count * (now_s - frame.arrived_s))
