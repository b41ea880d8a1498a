"""Which steps a time makes: its own, those of the gap before it, or none.

About one cadence after the time before, a row is the next step. Where steps are missing between the two,
the gap is filled or the row is refused; a time that repeats or goes back is refused or dropped, and so is
one that follows in less than half a cadence, which is nearer to the step that is there than to the next.
Times are compared in UTC, so a cadence is the same through both nights on which clocks are changed.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from tidegate.errors import InvalidRequest
from tidegate.model.time_rules import TimeRules


class StepOrder:
    """Remembers the newest time of a series."""

    def __init__(self, rules: TimeRules) -> None:
        self._rules = rules
        self._zone = rules.zone
        self._newest: datetime | None = None
        self._before: datetime | None = None

    def place(self, time: datetime) -> tuple[datetime, ...]:
        """The times of the steps that a row makes, in UTC: those of the gap before it, then its own.

        Args:
            time: Of the row, in UTC.

        Returns:
            Nothing, if the rules drop the row.

        Raises:
            InvalidRequest: The rules refuse it. A time after a gap that is too long still counts as the
                newest, so that the rows behind it are accepted.
        """
        previous = self._newest
        if previous is not None and self._is_no_step_after(previous, time):
            if self._rules.out_of_order == "drop":
                return ()
            raise InvalidRequest(f"time {self._text(time)} {self._relation(previous, time)}")
        self._before, self._newest = previous, time
        if previous is None:
            return (time,)
        return (*self._filled(previous, time), time)

    def take_back(self) -> None:
        """The row that was placed last became no step after all: where gaps are filled, it has left one."""
        if self._rules.max_gap_steps:
            self._newest = self._before

    def _is_no_step_after(self, previous: datetime, time: datetime) -> bool:
        return time <= previous or (time - previous).total_seconds() < self._rules.cadence_s / 2

    def _relation(self, previous: datetime, time: datetime) -> str:
        there = self._text(previous)
        if time == previous:
            return f"repeats {there}"
        if time < previous:
            return f"goes back behind {there}"
        elapsed_s = (time - previous).total_seconds()
        return f"comes too early: expected {self._rules.cadence_s:g} s after {there}, got {elapsed_s:g} s"

    def _filled(self, previous: datetime, time: datetime) -> list[datetime]:
        cadence_s, limit = self._rules.cadence_s, self._rules.max_gap_steps
        elapsed_s = (time - previous).total_seconds()
        # Nearest to a whole number: calendar months differ by a tenth, and clocks jitter.
        num_missing = math.floor(elapsed_s / cadence_s + 0.5) - 1 if cadence_s else 0
        if num_missing > limit:
            here, there = self._text(time), self._text(previous)
            if limit:
                found = f"of {num_missing} steps after {there}: expected at most {limit} (max_gap_steps)"
                raise InvalidRequest(f"time {here} leaves a gap {found}")
            expected = f"expected {cadence_s:g} s after {there}, got {elapsed_s:g} s"
            raise InvalidRequest(f"time {here} leaves a gap: {expected}")
        return [previous + timedelta(seconds=cadence_s * k) for k in range(1, num_missing + 1)]

    def _text(self, time: datetime) -> str:
        text = time.astimezone(self._zone).isoformat(sep=" ", timespec="auto")
        return text.removesuffix("+00:00").removesuffix(" 00:00:00")
