"""Several packages' figures as one."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.errors import InvalidRequest
from tidegate.evaluation.several import joined_figures


def figures_of(model: str, mse: float | None, **changes: Any) -> dict[str, Any]:
    """Figures in the form of `json_figures`, with one horizon and one target."""
    measures = {"mse": {"1": mse}, "mse_repeat_last": {"1": 0.7}}
    return {
        "model": model,
        "sha256": "00",
        "data": {"file": "a.csv", "sha256": "11", "rows": 9},
        "split": {"from": "row 1", "until": "the end", "first_row": 0, "rows": 9},
        "point": "the answer",
        "interval": None,
        "rows_not_held_out": 0,
        "season_steps": None,
        "known_ahead": [],
        "unit": "standard deviations of the training rows",
        "up_to": {"windows": {"1": 8}, **measures},
        "at": measures,
        "at_most": {},
        "targets": {"a": {"unit": "m", "std": 0.1, "up_to": measures, "at": measures}},
        "anomaly": None,
        **changes,
    }


def test_one_package_keeps_its_figures() -> None:
    figures = figures_of("a/1", 2.0)

    assert joined_figures([figures]) == figures


def test_several_have_a_mean_and_a_spread() -> None:
    found = [figures_of("a/1", 1.0), figures_of("a/2", 2.0), figures_of("a/3", 6.0)]

    found[1]["rows_not_held_out"] = 4
    joined = joined_figures(found)

    assert joined["model"] == "a/1, a/2, a/3"
    assert joined["rows_not_held_out"] == 4
    assert joined["up_to"] == {"windows": {"1": 8}, "mse": {"1": 3.0}, "mse_repeat_last": {"1": 0.7}}
    assert joined["targets"]["a"]["at"]["mse"] == {"1": 3.0}
    # The squares of -2, -1 and 3, over 3 - 1.
    assert joined["spread"] == {"mse": {"1": pytest.approx(7**0.5)}}
    assert joined["packages"] == found


def test_what_is_alike_stays_to_the_last_digit() -> None:
    joined = joined_figures([figures_of("a/1", 1.0)] * 3)

    assert joined["targets"]["a"]["std"] == 0.1
    assert isinstance(joined["up_to"]["windows"]["1"], int)


def test_what_one_never_measured_has_no_mean() -> None:
    joined = joined_figures([figures_of("a/1", 1.0), figures_of("a/2", None)])

    assert joined["up_to"]["mse"] == {"1": None}
    assert joined["spread"]["mse"] == {"1": None}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"season_steps": 24}, "season_steps: expected None as for a/1, got 24 for a/2"),
        ({"split": {"from": "row 2"}}, "split: expected .* as for a/1, got .* for a/2"),
        ({"targets": {}}, "targets: expected a/2 to forecast the same targets, steps and quantiles as a/1"),
        ({"at": {"mse": {"2": 1.0}}}, "at: expected a/2 to forecast the same"),
        ({"anomaly": {"values": 9, "above": {}, "tenths": []}}, "anomaly: expected a/2 to forecast the same"),
    ],
)
def test_packages_that_forecast_something_else_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        joined_figures([figures_of("a/1", 1.0), figures_of("a/2", 1.0, **changes)])
