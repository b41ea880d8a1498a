"""The committed demo package is what models/README.md says it is."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tidegate.evaluation.evaluation import Evaluation, Plan, evaluate_package
from tidegate.evaluation.series import read_series as read_rows
from tidegate.evaluation.streaming import load_runner
from tidegate.model.package import ModelPackage, read_package
from tidegate.model.parsing import parse_time
from tidegate.runner.graph import Graph
from tidegate.runner.probe import probe
from tidegate.tensor import Array
from tidegate.training.data import Series, read_series, split_series
from tidegate.training.recipe import RecipeFile, read_recipe
from tidegate.training.recipe_run import run_recipe

MODELS = Path(__file__).parents[2] / "models"
MODEL = MODELS / "co2-weekly"

TOLD = ("mae", "mae_repeat_last", "mae_same_season", "interval_coverage")
"""What the table in models/README.md tells of each horizon."""


TOLD_WEEKS = np.array([1, 4, 13, 26]) - 1


def told_after(words: str) -> list[float]:
    """The four numbers that models/README.md has behind some words."""
    text = (MODELS / "README.md").read_text().partition(words)[2]
    return [float(number) for number in re.findall(r"0\.\d{3}", text)[: len(TOLD_WEEKS)]]


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    return read_package(MODEL / "1")


@pytest.fixture(scope="module")
def recipe() -> RecipeFile:
    return read_recipe(MODEL / "recipe.toml")


@pytest.fixture(scope="module")
def series(recipe: RecipeFile) -> Series:
    return read_series(MODEL / "co2.csv", recipe.recipe.data)


@pytest.fixture(scope="module")
def held_out(recipe: RecipeFile, series: Series) -> slice:
    return split_series(series, recipe.recipe).test


def evaluate_session(package: ModelPackage, first_row: int) -> Evaluation:
    """Computed anew: one session from `first_row` to the end, through the engine."""
    whole = read_rows(MODEL / "co2.csv", package.manifest, ("co2_ppm",))
    rows = replace(
        whole,
        inputs=tuple(x[first_row:] for x in whole.inputs),
        times=whole.times[first_row:],
        truth=whole.truth[first_row:],
    )
    plan = Plan(first=parse_time("1996-01-01"), horizons=(1, 4, 13, 26), season_steps=52)
    return evaluate_package(load_runner(package), rows, plan)


@pytest.fixture(scope="module")
def found(package: ModelPackage) -> Evaluation:
    return evaluate_session(package, 0)


@pytest.fixture(scope="module")
def scores(found: Evaluation) -> dict[str, Array]:
    """Each measure by weeks ahead, from the first one on."""
    return found.at.of_target(0)


def test_the_series_is_the_one_that_is_described(series: Series) -> None:
    assert len(series.target) == 2284
    assert int((~series.observed).sum()) == 59
    assert tuple(series.times[[0, -1]].astype("datetime64[D]").astype(str)) == ("1958-03-29", "2001-12-29")


def test_the_package_is_small_and_belongs_to_recipe_and_data(
    package: ModelPackage, recipe: RecipeFile, series: Series
) -> None:
    size_bytes = sum(p.stat().st_size for p in package.path.iterdir())

    assert size_bytes < 500_000
    assert package.manifest.provenance["data_sha256"] == series.sha256
    assert package.manifest.provenance["recipe_sha256"] == hashlib.sha256(recipe.text.encode()).hexdigest()
    assert package.manifest.outputs[0].step_shape == (26, 3)
    assert package.manifest.inputs[0].features == ("co2_ppm",)


def test_the_package_is_batch_exact(package: ModelPackage) -> None:
    assert probe(Graph(package, device="cpu", threads=1), max_rows=256, max_steps=64).exact
    assert package.manifest.batch_exact is True


@pytest.mark.parametrize("weeks", range(1, 27))
def test_it_clearly_beats_both_naive_forecasts_on_held_out_weeks(
    scores: dict[str, Array], weeks: int
) -> None:
    best_naive = min(scores["mae_repeat_last"][weeks - 1], scores["mae_same_season"][weeks - 1])

    assert scores["mae"][weeks - 1] < 0.8 * best_naive


def test_a_session_that_begins_cold_beats_both_as_well(
    package: ModelPackage, held_out: slice, scores: dict[str, Array]
) -> None:
    cold = evaluate_session(package, held_out.start).at.of_target(0)

    assert (cold["mae"] < 0.8 * np.minimum(scores["mae_repeat_last"], scores["mae_same_season"])).all()
    assert cold["mae"][TOLD_WEEKS] == pytest.approx(told_after("begins cold in 1996"), abs=0.6e-3)


def test_it_beats_what_is_less_naive_too(scores: dict[str, Array], series: Series, held_out: slice) -> None:
    """The last value plus last year's change over the same weeks: season and trend without learning."""
    now, ahead = np.arange(held_out.start, held_out.stop)[:, None], np.arange(1, 27)
    future, counts = series.futures(26, held_out)
    naive = series.target[now] + series.target[now + ahead - 52] - series.target[now - 52]
    error = np.where(counts, np.abs(naive - future), 0).sum(0) / counts.sum(0)

    assert (scores["mae"] < error).all()
    assert error[TOLD_WEEKS] == pytest.approx(told_after("knows season and trend"), abs=0.6e-3)


def test_its_80_percent_interval_holds_about_80_percent(found: Evaluation) -> None:
    coverage = found.at.of_target(0)["interval_coverage"]

    assert found.at.count.sum() == sum(313 - k for k in range(26))
    assert 0.76 < coverage.mean() < 0.84
    assert (coverage > 0.72).all()
    assert (coverage < 0.88).all()


def test_the_table_in_the_readme_is_true(scores: dict[str, Array]) -> None:
    rows = re.findall(
        r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| (\d+) % \|$",
        (MODELS / "README.md").read_text(),
        re.MULTILINE,
    )

    assert [int(row[0]) for row in rows] == [1, 4, 13, 26]
    for weeks, *told in rows:
        k = int(weeks) - 1
        *maes, coverage = (scores[name][k] for name in TOLD)
        assert [float(t) for t in told] == pytest.approx([*maes, 100 * coverage], abs=0.6e-3, rel=0.006)


@pytest.mark.slow
def test_the_recipe_makes_a_package_as_good_again(
    tmp_path: Path, recipe: RecipeFile, scores: dict[str, Array]
) -> None:
    """Bit-equal on the machine that made it; elsewhere the rounding differs and so do the weights."""
    made = run_recipe(recipe, tmp_path)

    assert (made.held_out.at.of_target(0)["mae"] < 1.15 * scores["mae"]).all()
