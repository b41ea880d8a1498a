"""A trained network as a model package: its specs, its rules of forecasting, and what its check draws from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tidegate.model.forecast import DirectRules, FeedbackPair, FeedbackRules
from tidegate.model.manifest import BATCH, TIME, Dim, OutputSpec
from tidegate.tensor import Array, DType
from tidegate.training.carrying import carry_last_answers
from tidegate.training.data import INPUT_NAME, input_spec
from tidegate.training.export import Measure, export_package
from tidegate.training.networks import Forecaster, SingleStep
from tidegate.training.recipe import Recipe

OUTPUT_NAME = "forecast"

_EXAMPLE_ROWS, _EXAMPLE_STEPS = 16, 32
"""Sessions whose steps and last states the check of the export draws from."""


def package_network(
    network: Forecaster,
    recipe: Recipe,
    values: Array,
    *,
    repository: Path,
    provenance: Mapping[str, Any],
    measure: Measure | None = None,
) -> Path:
    """Export a network, check it and write its package.

    Args:
        network: As the recipe describes it, with the weights to keep.
        recipe: What it was trained by.
        values: Rows that it was trained on, [N, F], float32; the check feeds some of them.
        repository: Takes the package.
        provenance: Where the model comes from.
        measure: Called with the package before it is written; what it gives joins the provenance.

    Returns:
        Folder of the package.

    Raises:
        PackageError: The export does not compute what was trained, or the version exists with other bytes.
    """
    has_time_axis = not network.steps_alone
    outputs = output_specs(recipe, has_time_axis=has_time_axis)
    module = network if has_time_axis else SingleStep(network)
    carrying = carry_last_answers(module, outputs, network.state_pairs())
    return export_package(
        carrying.module,
        repository=repository,
        name=recipe.name,
        version=recipe.version,
        description=recipe.description,
        inputs=[input_spec(recipe.data, has_time_axis=has_time_axis)],
        outputs=carrying.outputs,
        states=carrying.states,
        initial_states=network.initial_values(),
        examples=_examples(network, values),
        time=recipe.data.time,
        forecast=forecast_rules(recipe),
        provenance=provenance,
        measure=measure,
    )


def output_specs(recipe: Recipe, *, has_time_axis: bool) -> list[OutputSpec]:
    """Quantiles of the targets over the steps that the network looks ahead by itself, and anomaly scores."""
    axes: tuple[Dim, ...] = (BATCH, TIME) if has_time_axis else (BATCH,)
    levels, targets = recipe.forecast.quantile_levels, recipe.data.targets
    several = (len(targets),) if len(targets) > 1 else ()
    forecast = OutputSpec(
        name=OUTPUT_NAME,
        dtype=DType.FLOAT32,
        shape=(*axes, *several, recipe.num_horizons, len(levels)),
        features=targets,
        units=recipe.data.target_units,
        horizon_steps=tuple(range(1, recipe.num_horizons + 1)),
        quantile_levels=levels,
    )
    if recipe.anomaly is None:
        return [forecast]
    score = OutputSpec(
        name="anomaly",
        dtype=DType.FLOAT32,
        shape=(*axes, *several),
        features=targets,
        units=("",) * len(targets),
    )
    return [forecast, score]


def forecast_rules(recipe: Recipe) -> DirectRules | FeedbackRules:
    """How `tidegate forecast` gets the coming steps: from the last answer, or by feeding medians back."""
    if recipe.forecast.mode == "direct":
        return DirectRules(mode="direct", outputs=(OUTPUT_NAME,))
    pairs = [
        FeedbackPair(
            input=INPUT_NAME,
            input_feature=target,
            output=OUTPUT_NAME,
            output_feature=target,
            quantile_level=0.5,
        )
        for target in recipe.data.targets
    ]
    return FeedbackRules(mode="feedback", pairs=tuple(pairs))


def _examples(network: Forecaster, values: Array) -> dict[str, Array]:
    """Steps of some sessions, and the states that they are in after them."""
    starts = np.linspace(0, len(values) - _EXAMPLE_STEPS, _EXAMPLE_ROWS).astype(np.intp)
    steps = values[starts[:, None] + np.arange(_EXAMPLE_STEPS)]
    with torch.no_grad():
        made = network.make(torch.from_numpy(steps), *network.initial_state(_EXAMPLE_ROWS))
    examples: dict[str, Array] = {INPUT_NAME: steps.reshape(-1, values.shape[1])}
    for pair, state in zip(network.state_pairs(), made.states, strict=True):
        examples[pair.input_name] = np.moveaxis(state.numpy(), pair.batch_axis or 0, 0)
    return examples
