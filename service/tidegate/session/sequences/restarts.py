"""Tells the operator of sequences that were begun anew while they were going on.

A metric counts all of them. The log has a line for each, up to a number in a minute: clients that never end their
sequences begin one anew at every start, and a disk is not theirs to fill.

The event loop owns it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from tidegate.session.sequences.key import SequenceKey
from tidegate.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

MAX_LINES = 20
"""In a period."""

PERIOD_S = 60.0


class Restarts:
    """What is said of restarts, for one server."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing has been said.

        Args:
            metrics: Counts restarts.
            clock: Tells the time, in seconds.
        """
        self._metrics = metrics
        self._clock = clock
        self._since_s = -PERIOD_S
        self._num_told = 0
        self._num_untold = 0

    def tell(self, key: SequenceKey, next_step: int) -> None:
        """A sequence that had taken so many steps is begun anew."""
        self._metrics.sequence_restarts.labels(key.model).inc()
        now_s = self._clock()
        if now_s - self._since_s >= PERIOD_S:
            self._since_s, self._num_told = now_s, 0
        if self._num_told == MAX_LINES:
            self._num_untold += 1
            return
        self._num_told += 1
        facts = {"model": key.model, "sequence": key.id, "next_step": next_step}
        if self._num_untold:
            facts["untold_before"], self._num_untold = self._num_untold, 0
        log.warning("a sequence was begun anew that had not ended", extra=facts)
