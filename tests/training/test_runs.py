"""What an epoch looks at: rows, futures, and the states that runs begin with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from support.small_recipes import KINDS, small_recipe, small_series
from tidegate.training.building import build_network
from tidegate.training.recipe import Recipe
from tidegate.training.runs import Runs


def with_training(recipe: Recipe, **changes: object) -> Recipe:
    training = {"batch_size": 4, "run_chunks": 2, "chunk_steps": 10, **changes}
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=training)})


def test_chunks_follow_one_another_and_bring_their_futures() -> None:
    recipe = with_training(small_recipe("basic"))
    series, split = small_series(recipe)

    first, second = Runs(series, split.train, recipe).draw().chunks()

    rows = np.concatenate([first[0], second[0]], 1)
    for run in rows:
        start = int(np.flatnonzero((series.values == run[0]).all(1))[0])
        assert np.array_equal(series.values[start : start + 20], run)
    assert torch.equal(first[1][:, :-1, 0], first[0][:, 1:, 0])  # the next step's target
    assert first[2].all()


def test_each_epoch_draws_other_rows_and_each_seed_too() -> None:
    recipe = with_training(small_recipe("basic"))
    series, split = small_series(recipe)
    runs = Runs(series, split.train, recipe)

    one, other = runs.draw().values, runs.draw().values
    again = Runs(series, split.train, recipe).draw().values
    else_seeded = Runs(series, split.train, with_training(recipe, seed=2)).draw().values

    assert not torch.equal(one, other)
    assert torch.equal(one, again)
    assert not torch.equal(one, else_seeded)


@pytest.mark.parametrize("kind", KINDS)
def test_a_warm_run_begins_with_what_it_would_remember(kind: str) -> None:
    recipe = with_training(small_recipe(kind), cold_share=0.5)
    series, split = small_series(recipe)
    network = build_network(recipe, series, split).eval()
    epoch = Runs(series, split.train, recipe).draw()

    with torch.no_grad():
        states = epoch.begin(network)
        seen = network.make(epoch.history, *network.initial_state(2)).states

    for pair, state, cold, warm in zip(
        network.state_pairs(), states, network.initial_state(2), seen, strict=True
    ):
        axis = pair.batch_axis or 0
        assert state.shape[axis] == 4
        assert torch.equal(state.narrow(axis, 0, 2), cold), pair.input_name
        begins_anew = pair.input_name in ("h", "c", "expected", "expects")
        torch.testing.assert_close(state.narrow(axis, 2, 2), cold if begins_anew else warm)


def test_the_history_of_a_warm_run_is_the_rows_before_it() -> None:
    recipe = with_training(small_recipe("linear"), cold_share=0.1, batch_size=64)
    series, split = small_series(recipe)

    epoch = Runs(series, split.train, recipe).draw()

    whole = torch.cat([epoch.history, epoch.values[epoch.num_cold :]], 1).numpy()
    assert (epoch.num_cold, len(whole)) == (7, 57)
    for run in whole:
        start = int(np.flatnonzero((series.values == run[0]).all(1))[0])
        assert np.array_equal(series.values[start : start + len(run)], run)


def test_all_runs_start_cold_unless_a_recipe_says_otherwise() -> None:
    recipe = with_training(small_recipe("linear"))
    series, split = small_series(recipe)
    network = build_network(recipe, series, split)

    states = Runs(series, split.train, recipe).draw().begin(network)

    assert not any(s.any() for s in states)
