"""The committed demo package is what models/README.md says it is."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from tidegate.model.package import ModelPackage, read_package
from tidegate.runner.graph import Graph
from tidegate.runner.probe import probe
from tidegate.training.data import Series, read_series, split_series
from tidegate.training.evaluation import Scores, score
from tidegate.training.recipe import RecipeFile, read_recipe
from tidegate.training.recipe_run import run_recipe

MODELS = Path(__file__).parents[2] / "models"
MODEL = MODELS / "co2-weekly"


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


def score_session(package: ModelPackage, series: Series, first_row: int, rows: slice) -> Scores:
    """Computed anew: one session from `first_row` to the end, in ONNX Runtime."""
    states = [np.zeros(s.graph_shape(1, 1), s.dtype.numpy) for s in package.manifest.states]
    graph = Graph(package, device="cpu", threads=1)
    (forecasts,), _ = graph.run([series.values[None, first_row:]], states)
    return score(forecasts[0, rows.start - first_row :], series, rows, season_steps=52)


@pytest.fixture(scope="module")
def scores(package: ModelPackage, series: Series, held_out: slice) -> Scores:
    return score_session(package, series, 0, held_out)


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
def test_it_clearly_beats_both_naive_forecasts_on_held_out_weeks(scores: Scores, weeks: int) -> None:
    best_naive = min(scores.repeat_last[weeks - 1], scores.same_season[weeks - 1])

    assert scores.model[weeks - 1] < 0.8 * best_naive


def test_a_session_that_begins_cold_beats_both_as_well(
    package: ModelPackage, series: Series, held_out: slice
) -> None:
    cold = score_session(package, series, held_out.start, held_out)

    assert (cold.model < 0.8 * np.minimum(cold.repeat_last, cold.same_season)).all()


def test_it_beats_what_is_less_naive_too(scores: Scores, series: Series, held_out: slice) -> None:
    """The last value plus last year's change over the same weeks: season and trend without learning."""
    now, ahead = np.arange(held_out.start, held_out.stop)[:, None], np.arange(1, 27)
    future, counts = series.futures(26, held_out)
    naive = series.target[now] + series.target[now + ahead - 52] - series.target[now - 52]
    error = np.where(counts, np.abs(naive - future), 0).sum(0) / counts.sum(0)

    assert (scores.model < error).all()


def test_its_80_percent_interval_holds_about_80_percent(scores: Scores) -> None:
    assert scores.num_forecasts == 7787
    assert 0.76 < scores.coverage.mean() < 0.84
    assert (scores.coverage > 0.72).all()
    assert (scores.coverage < 0.88).all()


def test_the_table_in_the_readme_is_true(scores: Scores) -> None:
    rows = re.findall(
        r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| (\d+) % \|$",
        (MODELS / "README.md").read_text(),
        re.MULTILINE,
    )

    assert [int(row[0]) for row in rows] == [1, 4, 13, 26]
    for weeks, *told in rows:
        k = int(weeks) - 1
        found = (scores.model[k], scores.repeat_last[k], scores.same_season[k], 100 * scores.coverage[k])
        assert [float(t) for t in told] == pytest.approx(found, abs=0.6e-3, rel=0.006)


@pytest.mark.slow
def test_the_recipe_makes_a_package_as_good_again(tmp_path: Path, recipe: RecipeFile, scores: Scores) -> None:
    """Bit-equal on the machine that made it; elsewhere the rounding differs and so do the weights."""
    made = run_recipe(recipe, tmp_path)

    assert (made.scores.model < 1.15 * scores.model).all()
