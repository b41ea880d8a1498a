"""What an engine counts, with the labels of its model version resolved once."""

from __future__ import annotations

from tidegate.telemetry.metrics import Metrics


class EngineMeter:
    """Counters of one model version."""

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
        self._batch_rows = metrics.batch_rows.labels(model, version)
        self._steps = metrics.steps.labels(model, version)
        self._rows = metrics.rows.labels(model, version)
        self._frames = metrics.frames.labels(model, version)
        self._queue = metrics.frame_queue.labels(model, version)
        self._run = metrics.frame_run.labels(model, version)
        self._total = metrics.frame_total.labels(model, version)

    def batch(self, num_rows: int, num_steps: int) -> None:
        """A batch has run."""
        self._batch_rows.observe(num_rows)
        self._steps.inc(num_rows * num_steps)

    def rows(self, count: int) -> None:
        """Rows have been answered."""
        self._rows.inc(count)

    def frame(self, queue_s: float, run_s: float, total_s: float) -> None:
        """A frame has been answered in full; times in seconds."""
        self._frames.inc()
        self._queue.observe(queue_s)
        self._run.observe(run_s)
        self._total.observe(total_s)
