"""From a recipe to a package: read, train, export, check, measure through the engine, write."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tidegate.errors import PackageError
from tidegate.evaluation.evaluation import Evaluation
from tidegate.model.data_files import data_file
from tidegate.model.package import read_package
from tidegate.training.checkpoints import Checkpoints
from tidegate.training.data import Series, read_series, split_series
from tidegate.training.devices import one_thread
from tidegate.training.epoch_log import EpochLog
from tidegate.training.measuring import Measuring
from tidegate.training.packaging import package_network
from tidegate.training.recipe import Recipe, RecipeFile
from tidegate.training.run_key import run_key
from tidegate.training.train import Records, Watcher, train


@dataclass(frozen=True)
class TrainedPackage:
    """What a run of a recipe made.

    Attributes:
        path: Folder of the package.
        held_out: How good it is on the rows that were held out, as it is served.
    """

    path: Path
    held_out: Evaluation


def run_recipe(
    file: RecipeFile,
    repository: Path,
    *,
    data: Path | None = None,
    log: Path | None = None,
    restart: bool = False,
    watcher: Watcher | None = None,
) -> TrainedPackage:
    """Train, export, measure and write the package that a recipe describes; resume a run that was interrupted.

    Args:
        file: The recipe.
        repository: Model repository that takes the package and, until it is made, the checkpoints.
        data: CSV file to use instead of the recipe's.
        log: CSV file of the epochs; None: `<repository>/<name>/training-<version>.csv`.
        restart: Begin anew where a run was interrupted.
        watcher: Is told how the run goes.

    Raises:
        ConfigError: The data do not fit the recipe, or see `train`.
        PackageError: The export does not compute what was trained, or the version exists with other bytes.
    """
    recipe = file.recipe
    measuring = Measuring(data or data_file(recipe.data.file, file.path.parent))
    series = read_series(measuring.data, recipe.data)
    split = split_series(series, recipe)
    origin = _origin(file, series)
    _check_version_is_free(repository / recipe.name / recipe.version, origin)
    records = _records(repository, recipe, series, log)
    watcher = watcher or Watcher()
    watcher.data_read(split)
    if restart:
        records.checkpoints.forget()
    network = train(recipe, series, split, watcher=watcher, records=records)
    with one_thread():
        path = package_network(
            network,
            recipe,
            series.values[split.train],
            repository=repository,
            provenance=origin,
            measure=measuring,
        )
    records.checkpoints.remove_all()
    return TrainedPackage(path, measuring.found["test"])


def _records(repository: Path, recipe: Recipe, series: Series, log: Path | None) -> Records:
    key = run_key(recipe, series.sha256)
    return Records(
        Checkpoints(repository, recipe.name, recipe.version, key),
        EpochLog(log or repository / recipe.name / f"training-{recipe.version}.csv"),
    )


def _check_version_is_free(target: Path, origin: Mapping[str, Any]) -> None:
    """Before hours of training rather than after: a version is never written with other bytes."""
    if not os.path.lexists(target):
        return
    there = read_package(target).manifest.provenance
    changed = [name for name, value in origin.items() if there.get(name) != value]
    if changed:
        raise PackageError(f"{target}: exists with another {changed[0]}: choose the next version number")


def _origin(file: RecipeFile, series: Series) -> dict[str, Any]:
    """What the manifest says of where the model comes from, as far as it is known before training."""
    return {
        "recipe_sha256": hashlib.sha256(file.text.encode()).hexdigest(),
        # As it was written: a key that comes later does not make another model of it.
        "recipe": file.recipe.model_dump(mode="json", exclude_unset=True),
        "seed": file.recipe.training.seed,
        "data_sha256": series.sha256,
        **_times(series),
        "torch": torch.__version__.split("+")[0],
    }


def _times(series: Series) -> dict[str, int]:
    """What became of the file's times, where anything did."""
    counts = {"steps_filled": series.num_filled, "rows_dropped": series.num_dropped}
    return {name: count for name, count in counts.items() if count}
