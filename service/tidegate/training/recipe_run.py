"""From a recipe to a package: read, train, score on the held-out rows, export, check, write."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tidegate.training.data import Series, read_series, split_series
from tidegate.training.evaluation import Scores, score
from tidegate.training.packaging import package_network
from tidegate.training.recipe import RecipeFile
from tidegate.training.train import Progress, forecast_rows, train

REPORTED_HORIZONS = (1, 4, 13, 26, 52)
"""Horizons whose scores go into the manifest, in steps."""


@dataclass(frozen=True)
class TrainedPackage:
    """What a run of a recipe made.

    Attributes:
        path: Folder of the package.
        scores: On the held-out rows.
    """

    path: Path
    scores: Scores


def run_recipe(
    file: RecipeFile,
    repository: Path,
    *,
    data: Path | None = None,
    report: Callable[[Progress], None] = lambda _: None,
) -> TrainedPackage:
    """Train, score, export and write the package that a recipe describes.

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
    series = read_series(data or file.path.parent / recipe.data.file, recipe.data)
    split = split_series(series, recipe)
    network = train(recipe, series, split, report)
    scores = {
        name: score(
            forecast_rows(network, series, rows), series, rows, season_steps=recipe.forecast.season_steps
        )
        for name, rows in (("validation", split.validation), ("test", split.test))
    }
    path = package_network(
        network,
        recipe,
        series.values[split.train],
        repository=repository,
        provenance=_provenance(file, series, scores),
    )
    return TrainedPackage(path, scores["test"])


def _provenance(file: RecipeFile, series: Series, scores: dict[str, Scores]) -> dict[str, Any]:
    return {
        "recipe_sha256": hashlib.sha256(file.text.encode()).hexdigest(),
        "recipe": file.recipe.model_dump(mode="json"),
        "data_sha256": series.sha256,
        **_times(series),
        "torch": torch.__version__.split("+")[0],
        "metrics": {
            part: {"num_forecasts": s.num_forecasts, **s.summary(REPORTED_HORIZONS)}
            for part, s in scores.items()
        },
    }


def _times(series: Series) -> dict[str, int]:
    """What became of the file's times, where anything did."""
    counts = {"steps_filled": series.num_filled, "rows_dropped": series.num_dropped}
    return {name: count for name, count in counts.items() if count}
