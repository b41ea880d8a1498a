"""The figures of a manifest are those of the package as it is served, and PyTorch's to four digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tidegate.cli.evaluate import evaluate
from tidegate.evaluation.figures import json_figures, manifest_figures
from tidegate.evaluation.forecasts import Block
from tidegate.evaluation.scores import Tally
from tidegate.model.package import read_package
from tidegate.training.data import read_series, split_series
from tidegate.training.recipe import read_recipe
from tidegate.training.recipe_run import run_recipe
from tidegate.training.train import forecast_rows, train

FOUR_DIGITS = 5e-5


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    "network",
    ["lags = [1, 7]", 'lags = [1, 7]\nnormalise = "running"\nnormalise_steps = 30'],
    ids=["in chunks", "step by step"],
)
def test_served_figures_are_those_of_the_network(recipe_path: Path, tmp_path: Path, network: str) -> None:
    change(recipe_path, "lags = [1, 7]", network)
    file = read_recipe(recipe_path)
    recipe = file.recipe
    series = read_series(recipe_path.with_name("tiny.csv"), recipe.data)
    split = split_series(series, recipe)

    served = run_recipe(file, tmp_path / "models").held_out

    trained = train(recipe, series, split)
    origins = np.arange(split.test.start - 1, split.test.stop)
    forecasts = forecast_rows(trained, series, slice(split.test.start - 1, split.test.stop))
    tally = Tally(
        served.series.truth,
        served.split,
        served.look,
        served.horizons,
        served.windows,
        recipe.forecast.season_steps,
    )
    tally.add(Block(origins, forecasts[:, None], []))
    for name, means in tally.at.of_target(0).items():
        assert served.at.of_target(0)[name] == pytest.approx(means, rel=FOUR_DIGITS), name
    for name, means in tally.up_to.overall(served.unit.std).items():
        assert served.up_to.overall(served.unit.std)[name] == pytest.approx(means, rel=FOUR_DIGITS), name


def test_the_command_finds_what_the_manifest_keeps(recipe_path: Path, tmp_path: Path) -> None:
    made = run_recipe(read_recipe(recipe_path), tmp_path / "models")
    kept = read_package(made.path).manifest.provenance

    done = CliRunner().invoke(
        evaluate, [str(made.path), str(recipe_path.with_name("tiny.csv")), "--json", "-"]
    )

    found = json.loads(done.stdout)
    assert found == json_figures(made.held_out)
    assert kept["metrics"]["test"] == manifest_figures(made.held_out)
    assert found["split"]["from"] == "2020-05-15T00:00:00+00:00"
    assert kept["metrics"]["validation"]["until"] == found["split"]["from"]
    assert list(kept["target_std"]) == ["level"]
    # The training rows, of which one was not measured.
    rows = np.array([10 + 0.02 * k + np.sin(2 * np.pi * k / 7) for k in range(91) if k != 40]).round(3)
    assert kept["target_std"]["level"] == pytest.approx(rows.std(), rel=1e-9)


def test_a_model_that_is_rolled_out_is_measured_as_far_as_its_recipe_looks(
    recipe_path: Path, tmp_path: Path
) -> None:
    change(recipe_path, "max_horizon_steps = 3", 'mode = "rollout"\nmax_horizon_steps = 3')

    found = run_recipe(read_recipe(recipe_path), tmp_path / "models").held_out

    assert found.horizons == (1, 2, 3)
    assert found.windows == (1, 3)
    assert found.known_ahead == ()
    assert np.isfinite(found.at.of_target(0)["mae"]).all()
