"""From a recipe to a package: read, train, score on the held-out rows, export, check, write."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tidegate.model.forecast import DirectRules
from tidegate.model.manifest import BATCH, TIME, Dim, OutputSpec
from tidegate.tensor import DType
from tidegate.training.carrying import carry_last_answers
from tidegate.training.data import Series, input_spec, read_series, split_series
from tidegate.training.evaluation import Scores, score
from tidegate.training.export import export_package
from tidegate.training.networks import Forecaster, SingleStep
from tidegate.training.recipe import Recipe, RecipeFile
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
    path = _export(network, recipe, repository, _provenance(file, series, scores))
    return TrainedPackage(path, scores["test"])


def _export(network: Forecaster, recipe: Recipe, repository: Path, provenance: dict[str, Any]) -> Path:
    has_time_axis = network.cells.has_time_loop
    output = output_spec(recipe, has_time_axis=has_time_axis)
    carrying = carry_last_answers(
        network if has_time_axis else SingleStep(network), [output], network.state_pairs()
    )
    return export_package(
        carrying.module,
        repository=repository,
        name=recipe.name,
        version=recipe.version,
        description=recipe.description,
        inputs=[input_spec(recipe.data, has_time_axis=has_time_axis)],
        outputs=carrying.outputs,
        states=carrying.states,
        time=recipe.data.time,
        forecast=DirectRules(mode="direct", outputs=(output.name,)),
        provenance=provenance,
    )


def output_spec(recipe: Recipe, *, has_time_axis: bool = True) -> OutputSpec:
    """The model's one output: quantiles of the target over the coming steps."""
    axes: tuple[Dim, ...] = (BATCH, TIME) if has_time_axis else (BATCH,)
    levels = recipe.forecast.quantile_levels
    unit = next(c.unit for c in recipe.data.columns if c.name == recipe.data.target)
    return OutputSpec(
        name="forecast",
        dtype=DType.FLOAT32,
        shape=(*axes, recipe.forecast.max_horizon_steps, len(levels)),
        features=(recipe.data.target,),
        units=(unit,),
        horizon_steps=tuple(range(1, recipe.forecast.max_horizon_steps + 1)),
        quantile_levels=levels,
    )


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
