"""Options of recovery, and the pauses before connecting again."""

from __future__ import annotations

from itertools import islice

import pytest

from tidegate.client import RecoveryOptions
from tidegate.client.recovery import delays_s, leave_alone_s
from tidegate.errors import InvalidRequest


def test_pauses_grow_to_the_longest_and_differ_between_clients() -> None:
    options = RecoveryOptions(first_delay_s=1.0, max_delay_s=5.0)

    one, other = (list(islice(delays_s(options), 6)) for _ in range(2))

    for delays in (one, other):
        for delay, longest in zip(delays, (1, 2, 4, 5, 5, 5), strict=True):
            assert longest / 2 <= delay <= longest
    assert one != other


def test_a_hint_is_kept_and_keeps_clients_apart() -> None:
    pauses = [leave_alone_s(2.0) for _ in range(20)]

    assert all(2.0 <= pause <= 3.0 for pause in pauses)
    assert len(set(pauses)) > 1
    assert leave_alone_s(None) > 0


@pytest.mark.parametrize("field", ["max_held_bytes", "first_delay_s", "max_delay_s", "open_timeout_s"])
def test_options_that_make_no_sense_are_refused(field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{field}: expected more than 0, got 0"):
        RecoveryOptions(**{field: 0})


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="when_full"):
        RecoveryOptions(when_full="drop")  # type: ignore[arg-type]
