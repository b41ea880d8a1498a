"""A whole evaluation: which rows, which horizons, which unit, and what is kept of it."""

from __future__ import annotations

import json
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from support.forecast_models import feedback_package
from support.naive_models import repeating_package
from tidegate.errors import ConfigError, InvalidRequest
from tidegate.evaluation.evaluation import Evaluation, Plan, evaluate_package
from tidegate.evaluation.figures import json_figures, manifest_figures
from tidegate.evaluation.series import read_series
from tidegate.evaluation.split import Split
from tidegate.evaluation.streaming import load_runner
from tidegate.model.package import read_package
from tidegate.model.parsing import parse_time

TIME = {"column": "day", "cadence_s": 86400}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Forty days from 2024-01-01: each day a climbs by 1 and b by 10."""
    lines = ["day,a,b"]
    first = parse_time("2024-01-01").date().toordinal()
    for k in range(40):
        day = parse_time("2024-01-01").date().fromordinal(first + k)
        lines.append(f"{day},{k},{10 * k}")
    path = tmp_path / "days.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def evaluated(tmp_path: Path, file: Path, plan: Plan, **package: Any) -> Evaluation:
    """With a package that repeats the last values, [-5, 0, 5] around them."""
    made = read_package(
        repeating_package(tmp_path / "models", ("a", "b"), 8, **{"width": 5.0, "time": TIME, **package})
    )
    return evaluate_package(load_runner(made), read_series(file, made.manifest, ("a", "b")), plan)


def test_repeating_a_line_is_off_by_as_many_steps(tmp_path: Path, file: Path) -> None:
    found = evaluated(tmp_path, file, Plan(first=parse_time("2024-01-11"), season_steps=3))

    a, b = found.up_to.of_target(0), found.up_to.of_target(1)
    assert found.split == Split(10, 40)
    assert found.windows == (1, 2, 8)
    assert [found.num_windows(h) for h in found.windows] == [30, 29, 23]
    assert a["mae"].tolist() == a["mae_repeat_last"].tolist() == [1, 1.5, 4.5]
    assert b["mse"].tolist() == [100, 250, 2550]
    assert a["interval_coverage"].tolist() == [1, 1, 5 / 8]
    assert b["interval_width"].tolist() == [10, 10, 10]
    assert found.at.of_target(0)["mae_same_season"].tolist() == [3, 3, 3, 6, 6, 6, 9, 9]


def test_both_targets_are_averaged_in_their_own_spread(tmp_path: Path, file: Path) -> None:
    found = evaluated(tmp_path, file, Plan(first=parse_time("2024-01-11")))

    spread = np.arange(10).std()
    assert found.unit.source == "rows before the split"
    assert found.unit.std == pytest.approx([spread, 10 * spread])
    assert found.up_to.overall(found.unit.std)["mae"] == pytest.approx(np.array([1, 1.5, 4.5]) / spread)
    assert found.season_steps == 0
    assert "mae_same_season" not in found.up_to.overall(found.unit.std)


def test_without_a_plan_the_recipe_says_what_is_held_out(tmp_path: Path, file: Path) -> None:
    recipe = {
        "data": {"validation_from": "2024-01-21", "test_from": "2024-01-26", "test_until": "2024-02-05"},
        "forecast": {"season_steps": 7},
    }
    kept = {"recipe": recipe, "data_sha256": "of another file", "target_std": {"a": 2.0, "b": 4.0}}

    found = evaluated(tmp_path, file, Plan(), provenance=kept)

    assert found.split == Split(25, 35)
    assert found.season_steps == 7
    assert found.unit.source == "training rows"
    assert found.unit.std.tolist() == [2, 4]


def test_on_the_file_of_the_recipe_the_unit_is_measured(tmp_path: Path, file: Path) -> None:
    recipe = {"data": {"validation_from": "2024-01-21", "test_from": "2024-01-26"}}
    sha256 = read_series(
        file, read_package(repeating_package(tmp_path, ("a", "b"), 1)).manifest, ("a",)
    ).sha256

    found = evaluated(tmp_path, file, Plan(), provenance={"recipe": recipe, "data_sha256": sha256})

    assert found.unit.std == pytest.approx([np.arange(20).std(), 10 * np.arange(20).std()])


def test_a_recipe_that_was_written_by_hand_is_read_as_far_as_it_makes_sense(
    tmp_path: Path, file: Path
) -> None:
    recipe = {
        # As TOML has it, where no quotes stand around it.
        "data": {"test_from": date(2024, 1, 26)},
        "forecast": {"season_steps": -7},
    }

    found = evaluated(
        tmp_path,
        file,
        Plan(),
        provenance={"recipe": recipe, "target_std": {"a": 2, "b": 0}, "data_sha256": 0},
    )

    assert found.split == Split(25, 40)
    assert found.season_steps == 0
    assert found.unit.source == "rows before the split"
    with pytest.raises(ConfigError, match=r"provenance\.recipe\.data\.test_from: expected an ISO 8601 date"):
        evaluated(tmp_path / "b", file, Plan(), provenance={"recipe": {"data": {"test_from": "soon"}}})


def test_a_file_without_times_is_evaluated_whole(tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    path.write_text("a,b\n" + "".join(f"{k},{-k}\n" for k in range(20)))

    found = evaluated(tmp_path, path, Plan(horizons=(3, 1)))

    assert found.split == Split(0, 20)
    assert found.windows == (1, 3)
    assert [found.num_windows(h) for h in (1, 3)] == [19, 17]
    assert found.up_to.of_target(0)["mae"].tolist() == [1, 2]
    assert found.unit.source == "rows of the split"
    assert json_figures(found)["split"]["from"] == "row 1"
    with pytest.raises(ConfigError, match="expected the time column 'day', because the split"):
        evaluated(tmp_path, path, Plan(first=parse_time("2024-01-11")))


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (Plan(first=parse_time("2024-03-01")), "split: expected rows from 2024-03-01"),
        (Plan(until=parse_time("2024-01-01")), "split: expected rows from the begin until 2024-01-01"),
        (Plan(horizons=(9,)), "horizons: the model looks 1 to 8 steps ahead, got 9"),
        (
            Plan(first=parse_time("2024-02-05"), horizons=(8,)),
            "horizons: expected at most 5, the length of the split, got 8",
        ),
    ],
)
def test_a_plan_that_cannot_be_kept_is_refused(tmp_path: Path, file: Path, plan: Plan, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        evaluated(tmp_path, file, plan)


def test_a_short_split_is_averaged_as_far_as_it_goes(tmp_path: Path, file: Path) -> None:
    found = evaluated(tmp_path, file, Plan(first=parse_time("2024-02-05")))

    assert found.windows == (1, 2)
    figures = json_figures(found)
    assert figures["at"]["mae"]["5"] is not None
    assert figures["at"]["mae"]["6"] is None
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_the_manifest_keeps_figures_that_toml_can_hold(tmp_path: Path, file: Path) -> None:
    found = evaluated(tmp_path, file, Plan(first=parse_time("2024-01-11"), season_steps=3))

    kept = manifest_figures(found)
    assert tomllib.loads(tomli_w.dumps(kept)) == kept
    assert kept["windows"] == {"1": 30, "2": 29, "8": 23}
    assert kept["from"] == "2024-01-11T00:00:00+00:00"
    assert kept["until"] == "the end"
    assert kept["targets"]["b"]["mse"] == {"1": 100, "2": 250, "8": 2550}
    assert kept["mae"]["1"] == float(f"{1 / np.arange(10).std():.6g}")


def test_the_excerpt_has_what_was_said_so_many_steps_before(tmp_path: Path, file: Path) -> None:
    found = evaluated(tmp_path, file, Plan(first=parse_time("2024-01-11"), horizons=(1, 4, 8)))

    excerpt = found.excerpt
    assert excerpt.horizon == 4
    assert excerpt.rows.tolist() == list(range(13, 40))
    assert (excerpt.truth[:, 0] - excerpt.forecasts[:, 0, 1]).tolist() == [4] * 27


def test_anomaly_scores_are_told_by_how_they_are_spread(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("a,b\n" + "".join(f"{(k % 20 + 0.5) / 20},{k}\n" for k in range(100)))

    found = evaluated(tmp_path, path, Plan(), anomaly=True)

    assert found.anomalies is not None
    assert found.anomalies.num_values == 100
    assert found.anomalies.above == (0.5, 0.1, 0.05, 0.0)
    assert found.anomalies.counts == (10,) * 10
    assert manifest_figures(found)["anomaly_above"] == {"0.5": 0.5, "0.9": 0.1, "0.95": 0.05, "0.99": 0.0}


def test_rolled_forecasts_are_averaged_like_any_other(tmp_path: Path, rng: np.random.Generator) -> None:
    package = read_package(feedback_package(tmp_path / "models", plan=True))
    path = tmp_path / "series.csv"
    rows = rng.normal(size=(300, 3)).round(3).tolist()
    path.write_text("value,season,plan\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows))
    series = read_series(path, package.manifest, ("value",))

    runner = load_runner(package)
    found = evaluate_package(runner, series, Plan(horizons=(1, 3)))

    assert found.horizons == (1, 2, 3)
    assert found.known_ahead == ("season", "plan")
    assert found.at.count.tolist() == [[299, 298, 297]]
    # Two batches of copies, the second of which is not full.
    assert found.excerpt.forecasts.shape == (200, 1, 3)
    # A number that no memory could hold is refused like any other.
    with pytest.raises(
        InvalidRequest, match="horizons: expected at most 299, the length of the split, got 1"
    ):
        evaluate_package(runner, series, Plan(horizons=(1, 10**18)))
