"""A small series and a recipe for it, trained in seconds."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

RECIPE = """
name = "tiny"
version = "1"

[data]
file = "tiny.csv"
columns = [{ name = "level", unit = "m" }]
target = "level"
validation_from = 2020-04-01
test_from = 2020-05-15

[data.time]
column = "day"
cadence_s = 86400
missing = "repeat-last"

[network]
cell = "lstm"
hidden_size = 8
lags = [1, 7]

[forecast]
max_horizon_steps = 3
season_steps = 7

[training]
seed = 3
learning_rate = 0.02
max_epochs = 3
batch_size = 4
run_chunks = 2
chunk_steps = 14
"""


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Threads that share a small sum wait longer for each other than it takes, all the more on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write_series(path: Path, days: int = 180) -> None:
    """A tide of 7 days on a slope, with one day not measured."""
    first = dt.date(2020, 1, 1)
    lines = ["day,level"]
    for k in range(days):
        level = "" if k == 40 else f"{10 + 0.02 * k + math.sin(2 * math.pi * k / 7):.3f}"
        lines.append(f"{first + dt.timedelta(k)},{level}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    """The recipe beside its data."""
    write_series(tmp_path / "tiny.csv")
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path
