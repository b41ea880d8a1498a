"""The forecaster as a function: what it carries, and that chunks and steps are the same to it."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from tidegate.training.cells import CELLS, CellName, RecurrentStack
from tidegate.training.check import check_cells
from tidegate.training.networks import Changes, Forecaster, Parts, QuantileHead, Scaling, SingleStep


def make_forecaster(
    cell: CellName = "lstm",
    *,
    features: int = 2,
    lags: tuple[int, ...] = (1, 3),
    layers: int = 2,
    quantiles: int = 3,
) -> Forecaster:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    scaling = Scaling(
        change_mean=random.normal(size=(len(lags), features)),
        change_std=random.uniform(0.5, 2, (len(lags), features)),
        horizon_mean=random.normal(size=4),
        horizon_std=random.uniform(0.5, 2, 4),
    )
    changes = Changes(lags, scaling)
    cells = CELLS[cell](changes.num_outputs, 5, layers)
    head = QuantileHead(5 + changes.num_outputs, quantiles, scaling)
    return Forecaster([1], Parts(changes=changes, cells=cells, head=head)).eval()


@pytest.mark.parametrize("cell", get_args(CellName))
def test_a_chunk_equals_its_steps(cell: CellName) -> None:
    network = make_forecaster(cell)
    x = torch.randn(3, 9, 2)

    with torch.no_grad():
        whole, *state_whole = network(x, *network.initial_state(3))
        state, pieces = network.initial_state(3), []
        for piece in (x[:, :1], x[:, 1:3], x[:, 3:8], x[:, 8:]):
            forecast, *state = network(piece, *state)
            pieces.append(forecast)

    torch.testing.assert_close(torch.cat(pieces, 1), whole)
    for one, other in zip(state, state_whole, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("cell", get_args(CellName))
def test_a_single_step_is_a_chunk_of_one(cell: CellName) -> None:
    network = make_forecaster(cell)
    state = tuple(torch.randn_like(s) for s in network.initial_state(3))
    x = torch.randn(3, 2)

    with torch.no_grad():
        one, *state_one = SingleStep(network)(x, *state)
        chunk, *state_chunk = network(x[:, None], *state)

    assert torch.equal(one, chunk[:, 0])
    assert all(torch.equal(a, b) for a, b in zip(state_one, state_chunk, strict=True))


def test_there_is_no_change_before_there_is_a_value_to_compare_with() -> None:
    changes = make_forecaster(features=1, lags=(1, 3)).changes
    x = torch.tensor([[[100.0], [100.5], [101.5], [102.0], [103.0]]])

    z, recent, seen = changes(x, torch.zeros(1, 3, 1), torch.zeros(1, 3, 1))

    raw = z / changes.factor.flatten() + changes.offset.flatten()
    assert z[0, 0].tolist() == [0, 0]
    assert z[0, :3, 1].tolist() == [0, 0, 0]
    torch.testing.assert_close(raw[0, 1:, 0], torch.tensor([0.5, 1.0, 0.5, 1.0]))
    torch.testing.assert_close(raw[0, 3:, 1], torch.tensor([2.0, 2.5]))
    assert recent[0, :, 0].tolist() == [101.5, 102, 103]
    assert seen[0, :, 0].tolist() == [1, 1, 1]


def test_a_forecast_moves_with_the_level_of_its_target() -> None:
    network = make_forecaster()
    x = torch.randn(1, 6, 2)

    with torch.no_grad():
        low, *_ = network(x, *network.initial_state(1))
        high, *_ = network(x + torch.tensor([0.0, 100.0]), *network.initial_state(1))

    torch.testing.assert_close(high, low + 100, atol=1e-3, rtol=0)


@pytest.mark.parametrize("quantiles", [1, 3, 5, 9])
def test_quantiles_never_cross(quantiles: int) -> None:
    network = make_forecaster(quantiles=quantiles)
    with torch.no_grad():
        network.head.linear.weight.mul_(3)
        forecast, *_ = network(torch.randn(8, 16, 2) * 30 + 350, *network.initial_state(8))

    assert forecast.shape == (8, 16, 4, quantiles)
    assert torch.isfinite(forecast).all()
    assert (forecast.diff(dim=-1) >= 0).all()


def test_a_broken_sensor_leaves_finite_forecasts() -> None:
    network = make_forecaster()
    x = torch.tensor([[[350.0, 350], [1e30, -1e30], [-3e38, 3e38], [350, 350]]])

    with torch.no_grad():
        forecast, *state = network(x, *network.initial_state(1))

    assert torch.isfinite(forecast).all()
    assert all(torch.isfinite(s).all() for s in state)


def test_the_states_are_named_and_shaped() -> None:
    network = make_forecaster("lstm")

    pairs = network.state_pairs()

    assert [(p.input_name, p.output_name, p.shape) for p in pairs] == [
        ("recent", "recent_next", ("batch", 3, 2)),
        ("seen", "seen_next", ("batch", 3, 1)),
        ("h", "h_next", (2, "batch", 5)),
        ("c", "c_next", (2, "batch", 5)),
    ]
    assert [tuple(s.shape) for s in network.initial_state(7)] == [(7, 3, 2), (7, 3, 1), (2, 7, 5), (2, 7, 5)]


@pytest.mark.parametrize("cell", get_args(CellName))
@pytest.mark.parametrize("layers", [1, 3])
def test_cells_compute_the_float64_formulas(cell: CellName, layers: int) -> None:
    torch.manual_seed(0)

    check_cells(CELLS[cell](3, 5, layers))


def test_the_recurrent_cells_are_all_stacks() -> None:
    assert set(CELLS) == set(get_args(CellName))
    assert all(issubclass(stack, RecurrentStack) for stack in CELLS.values())
