"""The table and the files that a run leaves."""

from __future__ import annotations

import json
from pathlib import Path

from bench import table
from bench.figures import GROUPS
from bench.goals import GOALS
from bench.setting import Figure


def test_a_figure_at_its_goal_meets_it_and_one_past_it_does_not() -> None:
    for name, goal in GOALS.items():
        worse = goal.bound - 0.01 if goal.sense == "≥" else goal.bound + 0.01

        at, past = table.records([Figure(name, goal.bound), Figure(name, worse)])

        assert (at["met"], past["met"]) == (True, False)


def test_each_figure_belongs_to_one_group() -> None:
    measured = [name for names in GROUPS.values() for name in names]

    assert sorted(measured) == sorted(GOALS)


def test_the_file_holds_name_value_unit_goal_and_met(tmp_path: Path) -> None:
    figures = [Figure("soak.growth", 1.25), Figure("frames.rate", 0.5)]

    table.write(tmp_path / "latest.json", figures, {"cpu": "x"}, {"soak.growth": {"rounds": [1.25]}})

    assert json.loads((tmp_path / "latest.json").read_text()) == [
        {"name": "soak.growth", "value": 1.25, "unit": "MB", "goal": "≤ 4", "met": True},
        {"name": "frames.rate", "value": 0.5, "unit": "ratio", "goal": "≥ 0.75", "met": False},
    ]
    beside = json.loads((tmp_path / "latest-raw.json").read_text())
    assert beside == {"machine": {"cpu": "x"}, "figures": {"soak.growth": {"rounds": [1.25]}}}
