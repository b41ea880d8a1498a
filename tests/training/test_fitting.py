"""What an epoch does to weights and states."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from support.small_recipes import KINDS, small_recipe, small_series
from tidegate.errors import ConfigError
from tidegate.tensor import BoolArray
from tidegate.training.building import build_network
from tidegate.training.data import Series
from tidegate.training.fitting import Fit
from tidegate.training.networks import Forecaster
from tidegate.training.training_recipe import TrainingRecipe

CPU = torch.device("cpu")
SIZES = {"batch_size": 4, "run_chunks": 3, "chunk_steps": 6, "max_epochs": 8}
RUN_STEPS = SIZES["run_chunks"] * SIZES["chunk_steps"]
STILL = {"optimiser": "sgd", "learning_rate": 1e-30, "weight_decay": 0.0}
"""Weights that stay as they are."""


def begin(kind: str = "basic", *, dropout: float = 0.0, **plan: object) -> tuple[Fit, Forecaster, Series]:
    """A fit that no epoch was run of."""
    training = TrainingRecipe.model_validate(SIZES | plan)
    recipe = small_recipe(kind, dropout=dropout).model_copy(update={"training": training})
    series, split = small_series(recipe)
    torch.manual_seed(training.seed)
    network = build_network(recipe, series, split)
    return Fit(network, recipe, series, split, CPU), network, series


def run(fit: Fit) -> None:
    while not fit.is_done:
        fit.run_epoch()


def check_states(fit: Fit, network: Forecaster, series: Series, runs: BoolArray, num_epochs: int) -> None:
    """Some runs carry what a session would that began so many epochs ago."""
    kept, picked = fit.snapshot(), torch.from_numpy(np.flatnonzero(runs))
    assert len(picked)
    num_steps = num_epochs * RUN_STEPS
    starts = np.array(kept["runs"]["next_rows"])[runs] - num_steps
    x = torch.from_numpy(series.values[starts[:, None] + np.arange(num_steps)])
    with torch.no_grad():
        expected = network.eval().make(x, *network.initial_state(len(starts))).states
    for found, state, pair in zip(kept["states"], expected, network.state_pairs(), strict=True):
        torch.testing.assert_close(
            found.index_select(pair.batch_axis or 0, picked), state, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_carries_what_a_session_would_through_chunks_and_epochs(kind: str) -> None:
    fit, network, series = begin(kind, cold_share=0.5, **STILL)
    fit.run_epoch()
    check_states(fit, network, series, np.ones(SIZES["batch_size"], np.bool_), num_epochs=1)
    rows = np.array(fit.snapshot()["runs"]["next_rows"])

    fit.run_epoch()

    went_on = np.array(fit.snapshot()["runs"]["next_rows"]) == rows + RUN_STEPS
    check_states(fit, network, series, went_on, num_epochs=2)
    check_states(fit, network, series, ~went_on, num_epochs=1)


@pytest.mark.parametrize(("optimiser", "schedule"), [("adamw", "cosine"), ("sgd", "constant")])
def test_every_optimiser_and_schedule_lowers_the_loss(optimiser: str, schedule: str) -> None:
    fit, _, _ = begin(optimiser=optimiser, schedule=schedule, learning_rate=0.02, max_epochs=20)

    run(fit)

    assert fit.epochs[-1].best_loss < 0.9 * fit.epochs[0].validation_loss


def test_the_learning_rate_follows_its_schedule() -> None:
    falling, _, _ = begin(learning_rate=0.02)
    staying, _, _ = begin(learning_rate=0.02, schedule="constant")

    run(falling)
    run(staying)

    rates = [epoch.learning_rate for epoch in falling.epochs]
    assert rates[0] == 0.02
    assert rates == sorted(rates, reverse=True)
    assert rates[4] == pytest.approx(0.02 * (1 + 1 / 100) / 2)
    assert {epoch.learning_rate for epoch in staying.epochs} == {0.02}


def test_no_update_is_longer_than_the_clipped_gradient_allows() -> None:
    fit, network, _ = begin(
        optimiser="sgd", learning_rate=0.5, weight_decay=0.0, max_gradient_norm=0.01, run_chunks=1
    )
    before = nn.utils.parameters_to_vector(network.parameters()).detach().clone()

    fit.run_epoch()

    moved = (nn.utils.parameters_to_vector(network.parameters()) - before).norm().item()
    assert moved == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_weights_decay() -> None:
    still, network, _ = begin(optimiser="sgd", learning_rate=1e-9, weight_decay=1e8, run_chunks=1)
    before = network.head.linear.weight.abs().mean().item()

    still.run_epoch()

    assert network.head.linear.weight.abs().mean().item() == pytest.approx(0.9 * before, rel=1e-3)


def test_it_stops_when_the_validation_loss_has_not_fallen_for_long_enough() -> None:
    fit, _, _ = begin(learning_rate=0.3, max_epochs=100, patience_epochs=3)

    run(fit)

    assert len(fit.epochs) == fit.best_epoch + 3 < 100


def test_a_loss_that_is_no_number_ends_it() -> None:
    fit, _, _ = begin(learning_rate=1e3)

    with pytest.raises(ConfigError, match=r"training: expected a finite loss, got .* in epoch 1; a smaller"):
        run(fit)


@pytest.mark.parametrize("num_done", [0, 1, 5])
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_fit_goes_on_from_a_snapshot_bit_for_bit(optimiser: str, num_done: int) -> None:
    """Dropout, so that PyTorch's generator matters; a share of runs that go on, so that states do."""

    def begun() -> Fit:
        return begin(dropout=0.2, optimiser=optimiser, learning_rate=0.1, cold_share=0.5)[0]

    run(whole := begun())
    first = begun()
    for _ in range(num_done):
        first.run_epoch()
    kept = first.snapshot()
    first.run_epoch()  # what comes after a snapshot does not change it

    second = begun()
    second.restore(kept)
    run(second)

    found, expected = second.best_network().state_dict(), whole.best_network().state_dict()
    assert [e.validation_loss for e in second.epochs] == [e.validation_loss for e in whole.epochs]
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert second.epochs[-1].best_loss < second.epochs[0].best_loss


def test_weights_that_were_best_before_a_snapshot_are_kept() -> None:
    whole, _, _ = begin(learning_rate=0.3, max_epochs=100, patience_epochs=3)
    run(whole)
    assert whole.best_epoch < len(whole.epochs)

    resumed, _, _ = begin(learning_rate=0.3, max_epochs=100, patience_epochs=3)
    resumed.restore(whole.snapshot())

    assert resumed.is_done
    found, expected = resumed.best_network().state_dict(), whole.best_network().state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
