"""Calendar bins: one at its place, and its neighbours in between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import torch

from tidegate.model.calendar_features import calendar_features
from tidegate.training.networks import CalendarBins


def bins_at(time: datetime) -> torch.Tensor:
    cycles = ("hour-of-day", "day-of-week")
    features = [feature(time) for feature in calendar_features(cycles).values()]
    found: torch.Tensor = CalendarBins(cycles)(torch.tensor([[features]]))
    return found[0, 0]


@pytest.mark.parametrize("hour", [0, 5, 12, 23])
def test_a_full_hour_is_in_its_own_bin_alone(hour: int) -> None:
    found = bins_at(datetime(2026, 3, 2, hour, tzinfo=UTC))[:24]

    torch.testing.assert_close(found, torch.eye(24)[hour], atol=1e-4, rtol=0)


def test_a_time_between_two_places_is_in_both_of_their_bins() -> None:
    found = bins_at(datetime(2026, 3, 2, 6, 30, tzinfo=UTC))[:24]

    assert found[6].item() == pytest.approx(found[7].item(), abs=1e-4)
    assert (found > 1e-4).nonzero().flatten().tolist() == [6, 7]


def test_cycles_stand_after_one_another() -> None:
    monday = datetime(2026, 3, 2, tzinfo=UTC)

    for day in range(7):
        assert bins_at(monday + timedelta(days=day))[24:].argmax() == day
