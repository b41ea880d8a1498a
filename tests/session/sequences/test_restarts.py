"""Sequences that are begun anew are all counted, and told of up to a number in a minute."""

from __future__ import annotations

import pytest

from tidegate.session.sequences.key import SequenceKey
from tidegate.session.sequences.restarts import MAX_LINES, PERIOD_S, Restarts
from tidegate.telemetry.metrics import Metrics


def test_a_flood_of_restarts_is_counted_and_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    metrics, now_s = Metrics(), 7.0
    restarts = Restarts(metrics, clock=lambda: now_s)

    for number in range(1, 1001):
        restarts.tell(SequenceKey("m", number), next_step=3)
    now_s += PERIOD_S
    restarts.tell(SequenceKey("m", "later"), next_step=5)

    *first, last = [record.__dict__ for record in caplog.records]
    assert [r["sequence"] for r in first] == list(range(1, MAX_LINES + 1))
    assert (last["sequence"], last["next_step"], last["untold_before"]) == ("later", 5, 1000 - MAX_LINES)
    assert metrics.registry.get_sample_value("tidegate_sequence_restarts_total", {"model": "m"}) == 1001
