"""From a recipe to a package: read, train, export, check, measure through the engine, write."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tidegate.evaluation.evaluation import Evaluation
from tidegate.training.data import Series, read_series, split_series
from tidegate.training.measuring import Measuring
from tidegate.training.packaging import package_network
from tidegate.training.recipe import RecipeFile
from tidegate.training.train import Progress, train


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
    report: Callable[[Progress], None] = lambda _: None,
) -> TrainedPackage:
    """Train, export, measure and write the package that a recipe describes.

    Args:
        file: The recipe.
        repository: Model repository that takes the package.
        data: CSV file to use instead of the recipe's.
        report: Called after every epoch.

    Raises:
        ConfigError: The data do not fit the recipe.
        PackageError: The export does not compute what was trained, or the version exists with other bytes.
    """
    recipe = file.recipe
    measuring = Measuring(data or file.path.parent / recipe.data.file)
    series = read_series(measuring.data, recipe.data)
    split = split_series(series, recipe)
    network = train(recipe, series, split, report)
    path = package_network(
        network,
        recipe,
        series.values[split.train],
        repository=repository,
        provenance=_origin(file, series),
        measure=measuring,
    )
    return TrainedPackage(path, measuring.found["test"])


def _origin(file: RecipeFile, series: Series) -> dict[str, Any]:
    return {
        "recipe_sha256": hashlib.sha256(file.text.encode()).hexdigest(),
        "recipe": file.recipe.model_dump(mode="json", exclude_none=True),
        "data_sha256": series.sha256,
        **_times(series),
        "torch": torch.__version__.split("+")[0],
    }


def _times(series: Series) -> dict[str, int]:
    """What became of the file's times, where anything did."""
    counts = {"steps_filled": series.num_filled, "rows_dropped": series.num_dropped}
    return {name: count for name, count in counts.items() if count}
