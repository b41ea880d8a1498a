"""One file makes the same steps, bit for bit, in training, evaluation, `tidegate stream` and a program."""

from __future__ import annotations

import csv
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from support.timed_models import RULES, START, timed_package
from tidegate.evaluation import series as evaluation
from tidegate.model.manifest import Manifest
from tidegate.model.package import read_package
from tidegate.model.rows import RowReader
from tidegate.model.steps import StepMaker
from tidegate.tensor import Array
from tidegate.training import data as training
from tidegate.training.data_recipe import DataRecipe

NUM_ROWS = 400


def write_series(path: Path, rng: np.random.Generator) -> None:
    """Gaps, jitter, times that repeat, go back or come early, empty cells, an index, and notes of all kinds."""
    hours = np.cumsum(
        rng.choice([-1.0, 0.0, 0.3, 0.9, 1.0, 1.1, 3.0], NUM_ROWS, p=[0.05] * 4 + [0.6, 0.1, 0.1])
    )
    notes = ["", "a\x85b", "c\u2028d", '"e\r\nf"', "g\x0ch"]
    rows = [
        f"{k},{START + timedelta(hours=hour)}Z,{rng.choice(['', f'{rng.normal():.9f}'], p=[0.1, 0.9])},{notes[k % 5]}\r\n"
        for k, hour in enumerate(hours.tolist())
    ]
    path.write_text("".join(["\ufeff,time,load,note\r\n", *rows]), encoding="utf-8", newline="")


def streamed(path: Path, manifest: Manifest) -> tuple[Array, int, int]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = RowReader(file, manifest.inputs, manifest.time, source="pipe")
        steps = np.concatenate([row.steps.values[0] for row in reader])
    return steps, reader.num_filled, reader.num_dropped


def by_hand(path: Path, manifest: Manifest) -> Array:
    maker = StepMaker(manifest.inputs, manifest.time)
    found = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            load = float(row["load"]) if row["load"] else None
            found.append(maker.steps(datetime.fromisoformat(row["time"]), {"load": load}))
    return np.concatenate([inputs["x"] for inputs in found if inputs])


def test_all_who_read_a_file_feed_the_same_steps(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "series.csv"
    write_series(path, rng)
    manifest = read_package(timed_package(tmp_path / "models")).manifest
    recipe = DataRecipe.model_validate(
        {
            "file": path.name,
            "columns": ({"name": "load"},),
            "target": "load",
            "time": RULES.model_dump(),
            "validation_from": "2024-04-01",
            "test_from": "2024-04-05",
        }
    )

    trained = training.read_series(path, recipe)
    evaluated = evaluation.read_series(path, manifest, ("load",))
    steps, num_filled, num_dropped = streamed(path, manifest)

    assert trained.values.tobytes() == evaluated.inputs[0].tobytes() == steps.tobytes()
    assert by_hand(path, manifest).tobytes() == steps.tobytes()
    assert (evaluated.num_filled, evaluated.num_dropped) == (num_filled, num_dropped)
    assert (trained.num_filled, trained.num_dropped) == (num_filled, num_dropped)
    assert min(num_filled, num_dropped) > 10
