"""The recipe for the Numenta Anomaly Benchmark: it builds, and what it trains serves gaps.

The benchmark's files are not in the project: without them the long test is skipped.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest

from tidegate.evaluation.streaming import load_runner, streamed_session
from tidegate.model.data_files import DATA_VARIABLE, DEFAULT_FOLDER
from tidegate.model.package import ModelPackage, read_package
from tidegate.tensor import Array
from tidegate.training.data import input_spec
from tidegate.training.recipe import read_recipe
from tidegate.training.recipe_run import run_recipe

RECIPE = Path(__file__).parents[2] / "models" / "nab" / "recipe.toml"
SERIES = "realAWSCloudwatch/ec2_cpu_utilization_ac20cd.csv"
DATA = Path(os.environ.get(DATA_VARIABLE) or DEFAULT_FOLDER) / "nab" / "data" / SERIES


def test_the_recipe_is_one_that_can_be() -> None:
    recipe = read_recipe(RECIPE).recipe

    assert input_spec(recipe.data).features == (
        "value",
        "hour_of_day_sin",
        "hour_of_day_cos",
        "day_of_week_sin",
        "day_of_week_cos",
    )
    assert input_spec(recipe.data).accepts_missing
    assert recipe.anomaly is not None


async def answered(package: ModelPackage, steps: Array) -> dict[str, Array]:
    """What one new session answers, by output."""
    async with streamed_session(load_runner(package)) as session:
        answers = await session.run([steps], wanted=True)
    return {spec.name: answer for spec, answer in zip(package.manifest.outputs, answers, strict=True)}


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_file(), reason=f"{DATA} is not there ({DATA_VARIABLE} names the folder)")
def test_a_series_with_gaps_is_trained_on_and_a_session_with_gaps_is_scored(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    text = RECIPE.read_text()
    for old, new in (
        ("2014-01-11", "2014-04-09"),
        ("2014-01-23", "2014-04-11"),
        ("max_epochs = 30", "max_epochs = 1"),
    ):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    steps = np.zeros((40, 5), np.float32)
    steps[:, 0] = 40 + np.sin(np.arange(40))
    steps[20:30, 0] = np.nan
    steps[35, 0] = 1e6

    made = run_recipe(read_recipe(path), tmp_path / "models", data=DATA)
    package = read_package(made.path)
    answers = asyncio.run(answered(package, steps))

    score = answers["anomaly"].ravel()
    assert package.manifest.provenance["steps_filled"] > 0
    assert made.held_out.anomalies is not None
    # Calibrated on these rows in PyTorch, and so found where the package is served.
    above = package.manifest.provenance["metrics"]["validation"]["anomaly_above"]
    assert above == pytest.approx({"0.5": 0.5, "0.9": 0.1, "0.95": 0.05, "0.99": 0.01}, abs=0.005)
    assert np.isfinite(answers["forecast"]).all()
    assert ((score >= 0) & (score <= 1)).all()
    assert (score[20:30] == 0).all()
    assert score[35] > 0.99
