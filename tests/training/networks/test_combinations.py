"""Every pair of choices that a recipe can make goes together: exact as it is served, in any company and any chunks.

All of the combinations would be thousands. Here each pair of values of two choices is in at least one
network; `test_kinds.py` has each choice alone.
"""

from __future__ import annotations

from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.small_recipes import changed_recipe, small_series
from tidegate.model.package import read_package
from tidegate.runner.runner import Runner, RunnerOptions
from tidegate.tensor import Array
from tidegate.training.building import build_network
from tidegate.training.networks import Forecaster
from tidegate.training.packaging import package_network

BOTH = {"data": {"target": None, "targets": ["flow", "level"]}}

CHOICES: dict[str, dict[str, dict[str, Any]]] = {
    "cell": {
        cell: {"network": {"cell": cell, "hidden_size": 33, "num_layers": 2}}
        for cell in ("lstm", "gru", "rnn")
    },
    "unit": {
        "fixed": {},
        "fixed level": {"network": {"sees_level": True}},
        "running": {"network": {"normalise": "running", "normalise_steps": 20}},
        "running level": {"network": {"normalise": "running", "normalise_steps": 20, "sees_level": True}},
        "frozen level": {"network": {"normalise": "frozen", "normalise_steps": 5, "sees_level": True}},
        "running change": {
            "network": {"normalise": "running", "normalise_by": "change", "normalise_steps": 20}
        },
        "frozen change": {"network": {"normalise": "frozen", "normalise_by": "change", "normalise_steps": 5}},
    },
    "head": {
        "quantiles": {},
        "blended": {"network": {"linear": {"window": 9}}},
        "middle": {"forecast": {"quantile_levels": [0.5]}},
        "blended middle": {"network": {"linear": {"window": 9}}, "forecast": {"quantile_levels": [0.5]}},
    },
    "targets": {
        "one": {},
        "both": BOTH,
        "one shared": {"network": {"shared": True}},
        "both shared": {**BOTH, "network": {"shared": True}},
    },
    "missing": {"repeated": {}, "masked": {"data": {"time": {"missing": "mask"}}}},
    "calendar": {
        "none": {},
        "waves": {"data": {"time": {"calendar": ["day-of-week"]}}},
        "bins": {"data": {"time": {"calendar": ["day-of-week"]}}, "network": {"calendar_bins": True}},
    },
    "means": {"none": {}, "means": {"network": {"means": [5]}}},
    "score": {"none": {}, "anomaly": {"anomaly": {}}},
}
"""Values of each choice, as changes to the small recipe."""

IMPOSSIBLE = {frozenset({"middle", "anomaly"}), frozenset({"blended middle", "anomaly"})}
"""A score needs more than the middle quantile."""

WAYS = ((1, 8), (2, 1), (3, 2), (64, 1), (64, 8))
"""Rows to a batch, and steps to a run."""

NUM_ROWS, NUM_STEPS = 64, 8

Combination = tuple[str, ...]


def pairs_of(combination: Combination) -> set[tuple[tuple[int, str], ...]]:
    return set(combinations(enumerate(combination), 2))


def covering() -> list[Combination]:
    """Combinations that have all pairs between them: of some drawn ones always that with the most new pairs."""
    random = np.random.default_rng(1)
    values = [list(choice) for choice in CHOICES.values()]
    left = {pair for pair in pairs_of_all(values) if {value for _, value in pair} not in IMPOSSIBLE}
    found: list[Combination] = []
    while left:
        wanted = dict(sorted(left)[0])
        drawn = [
            tuple(wanted.get(k, str(random.choice(choice))) for k, choice in enumerate(values))
            for _ in range(60)
        ]
        possible = [c for c in drawn if not any(pair <= set(c) for pair in IMPOSSIBLE)]
        found.append(max(possible, key=lambda c: len(pairs_of(c) & left)))
        left -= pairs_of(found[-1])
    return found


def pairs_of_all(values: list[list[str]]) -> set[tuple[tuple[int, str], ...]]:
    return {
        ((i, one), (k, other))
        for i, k in combinations(range(len(values)), 2)
        for one, other in product(values[i], values[k])
    }


def make(combination: Combination, folder: Path) -> tuple[Forecaster, Runner, Array]:
    """A network whose random weights all matter, its package as it is served, and its series."""
    changes = [CHOICES[name][value] for name, value in zip(CHOICES, combination, strict=True)]
    recipe = changed_recipe(*changes)
    series, split = small_series(recipe, NUM_ROWS * 2)
    torch.manual_seed(0)
    network = build_network(recipe, series, split).eval()
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(torch.randn_like(weights) * 0.1)
    path = package_network(network, recipe, series.values[:100], repository=folder, provenance={})
    return (
        network,
        Runner(
            read_package(path), RunnerOptions(max_sessions=NUM_ROWS, max_batch_size=64, max_slice_steps=8)
        ),
        series.values,
    )


def served(runner: Runner, x: Array, width: int, chunk: int) -> list[Array]:
    """Answers [rows, steps, ...] and states of fresh sessions, so many to a batch and so many steps to a run."""
    parts: list[list[Array]] = []
    for rows in np.split(np.arange(len(x)), range(width, len(x), width)):
        slots = (1 + np.arange(len(rows))).astype(np.int32)
        runner.arena.reset(slots)
        steps = [
            runner.step(slots, [piece]) for piece in np.split(x[rows], range(chunk, x.shape[1], chunk), 1)
        ]
        answers = [np.concatenate(pieces, 1) for pieces in zip(*steps, strict=True)]
        parts.append([*answers, *runner.arena.read(slots)])
    return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("combination", covering(), ids=" ".join)
def test_a_session_is_bit_identical_alone_and_in_company_in_steps_and_in_chunks(
    combination: Combination, tmp_path: Path
) -> None:
    network, runner, values = make(combination, tmp_path)
    starts = np.arange(NUM_ROWS)[:, None]
    x = values[starts + np.arange(NUM_STEPS)]

    alone = served(runner, x, 1, 1)

    assert runner.manifest.batch_exact is True  # by the probe of the export, up to 256 rows and 64 steps
    with torch.no_grad():
        expected = network.make(torch.from_numpy(x), *network.initial_state(NUM_ROWS)).outputs
    for found, want in zip(alone, expected, strict=False):
        np.testing.assert_allclose(found, want.numpy(), rtol=1e-4, atol=1e-3)
    assert (np.diff(alone[0], axis=-1) >= 0).all()
    for width, chunk in WAYS:
        together = served(runner, x, width, chunk)
        same = [a.tobytes() == b.tobytes() for a, b in zip(alone, together, strict=True)]
        assert all(same), (width, chunk, same)
