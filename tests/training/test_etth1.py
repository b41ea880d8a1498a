"""The recipe for ETTh1: it is what models/README.md says, and makes what can be served.

The data are not ours to copy: what needs them is skipped where the data folder is not there.
"""

from __future__ import annotations

import datetime as dt
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from support.server import ServerProcess
from tidegate.client import Client
from tidegate.model.data_files import DATA_VARIABLE, DEFAULT_FOLDER
from tidegate.training.building import build_network
from tidegate.training.data import read_series, split_series
from tidegate.training.recipe import read_recipe
from tidegate.training.recipe_run import run_recipe

RECIPE = Path(__file__).parents[2] / "models" / "etth1" / "recipe.toml"
DATA = Path(os.environ.get(DATA_VARIABLE) or DEFAULT_FOLDER) / "etth1" / "ETTh1.csv"

NUM_COLUMNS, NUM_HORIZONS, NUM_LEVELS = 7, 96, 3
NUM_STREAMED = 30
STATE_BYTES = 26_036
"""Of a session, its newest forecast included, as models/README.md tells."""


def with_changes(folder: Path, changes: dict[str, str]) -> Path:
    """A copy of the recipe in which some texts are others."""
    text = RECIPE.read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def write_waves(path: Path, num_rows: int) -> None:
    """Hours of seven columns as ETTh1 has them: daily waves and noise."""
    random = np.random.default_rng(5)
    lines = ["date,HUFL,HULL,MUFL,MULL,LUFL,LULL,OT"]
    for k in range(num_rows):
        time = dt.datetime(2016, 7, 1) + dt.timedelta(hours=k)
        values = [math.sin(2 * math.pi * (k + c) / 24) + random.normal(0, 0.1) for c in range(NUM_COLUMNS)]
        lines.append(f"{time},{','.join(f'{value:.3f}' for value in values)}")
    path.parent.mkdir()
    path.write_text("\n".join(lines) + "\n")


def test_its_splits_are_those_of_the_benchmark() -> None:
    data = read_recipe(RECIPE).recipe.data
    first = dt.datetime(2016, 7, 1, tzinfo=dt.UTC)
    edges = (data.validation_begin, data.test_begin, data.test_end)

    assert [(edge - first) / dt.timedelta(hours=1) for edge in edges if edge] == [8640, 11520, 14400]
    assert data.file == "etth1/ETTh1.csv"


def test_the_readme_has_one_row_for_each_horizon_and_the_mse_comes_first() -> None:
    section = (RECIPE.parents[1] / "README.md").read_text().partition("\n## ETTh1\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \|.*$", section, re.MULTILINE)

    assert re.search(r"^\| steps ahead \| MSE \| MAE \| MSE, repeat last \|", section, re.MULTILINE)
    assert [steps for steps, _ in rows] == ["1", "24", "96"]
    told = (RECIPE.parents[2] / "README.md").read_text()
    assert "it printed {}, {} and {} for the mean squared error".format(*(mse for _, mse in rows)) in told


def test_its_network_is_built_with_the_state_that_is_told(tmp_path: Path) -> None:
    changes = {
        "2017-06-26": "2016-08-10",
        "2017-10-24": "2016-08-18",
        "test_until = 2018-02-21": "test_until = 2016-08-25",
        # The closed form takes seconds for a long window. The means look back as far, so the state stays.
        "window = 504": "window = 24",
    }
    recipe = read_recipe(with_changes(tmp_path, changes)).recipe
    write_waves(tmp_path / recipe.data.file, 1400)
    series = read_series(tmp_path / recipe.data.file, recipe.data)

    network = build_network(recipe, series, split_series(series, recipe)).eval()

    states = network.initial_state(1)
    answers = network.make(torch.from_numpy(series.values[None, :3]), *states).outputs[0]
    assert answers.shape == (1, 3, NUM_COLUMNS, NUM_HORIZONS, NUM_LEVELS)
    assert sum(state.nbytes for state in states) + answers[0, -1].nbytes == STATE_BYTES


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_file(), reason=f"{DATA} is not there ({DATA_VARIABLE} names the folder)")
def test_one_epoch_makes_a_package_that_forecasts_and_is_served(tmp_path: Path) -> None:
    # The first months only: it takes less time, and the rows that the recipe holds out stay held out.
    changes = {
        "2017-06-26": "2016-10-15",
        "2017-10-24": "2016-11-01",
        "test_until = 2018-02-21": "test_until = 2016-12-01",
        "max_epochs = 80": "max_epochs = 1",
    }
    path = with_changes(tmp_path, changes)
    models = tmp_path / "models"

    made = run_recipe(read_recipe(path), models, data=DATA)

    figures = made.held_out.up_to.overall(made.held_out.unit.std)
    assert made.held_out.windows == (1, 24, 96)
    assert (figures["mse"] < np.minimum(figures["mse_repeat_last"], figures["mse_same_season"])).all()
    rows = read_series(DATA, read_recipe(path).recipe.data).values[:NUM_STREAMED]
    with (
        ServerProcess(models, tmp_path / "server") as server,
        Client(server.address) as client,
        client.session("etth1") as session,
    ):
        answers = session.run(rows)["forecast"]
        kept = client.sessions.forecast(session.session_id, NUM_HORIZONS)
    assert answers.shape == (NUM_STREAMED, NUM_COLUMNS, NUM_HORIZONS, NUM_LEVELS)
    assert (np.diff(answers, axis=-1) >= 0).all()
    assert np.array_equal(kept.outputs["forecast"], answers[-1].swapaxes(0, 1))
