"""What holds for every network that a recipe can ask for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from support.small_recipes import KINDS, small_recipe, small_series
from tidegate.model.forecast import FeedbackRules
from tidegate.model.future_inputs import future_inputs
from tidegate.model.package import ModelPackage, read_package
from tidegate.runner.graph import Graph
from tidegate.runner.roll import Roll
from tidegate.runner.runner import Runner, RunnerOptions
from tidegate.tensor import Array
from tidegate.training.building import build_network
from tidegate.training.networks import Forecaster
from tidegate.training.packaging import package_network

FORBIDDEN = {
    "RNN",
    "Softplus",
    "Log",
    "Sin",
    "Cos",
    "Elu",
    "ReduceMean",
    "ReduceSum",
    "CumSum",
    "Loop",
    "Scan",
}


def make(kind: str, **network: object) -> tuple[Forecaster, Array]:
    """A network whose random weights all matter, and its series."""
    recipe = small_recipe(kind, **network)
    series, split = small_series(recipe)
    torch.manual_seed(0)
    made = build_network(recipe, series, split).eval()
    with torch.no_grad():
        for weights in made.parameters():
            weights.add_(torch.randn_like(weights) * 0.1)
    return made, series.values


def package_of(kind: str, tmp_path: Path, **network: object) -> tuple[Forecaster, Array, ModelPackage]:
    made, values = make(kind, **network)
    recipe = small_recipe(kind, **network)
    path = package_network(made, recipe, values[:100], repository=tmp_path, provenance={})
    return made, values, read_package(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_chunk_equals_its_steps(kind: str) -> None:
    network, values = make(kind)
    x = torch.from_numpy(values[:60].reshape(2, 30, -1))

    with torch.no_grad():
        whole, *state_whole = network(x, *network.initial_state(2))
        state, pieces = network.initial_state(2), []
        for piece in torch.split(x, [1, 2, 20, 1, 6], 1):
            forecast, *rest = network(piece, *state)
            state = rest[len(rest) - len(state) :]
            pieces.append(forecast)

    torch.testing.assert_close(torch.cat(pieces, 1), whole)
    for one, other in zip(state, state_whole[len(state_whole) - len(state) :], strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_its_package_is_exact_and_step_by_step_what_the_network_is_in_one_go(
    kind: str, tmp_path: Path
) -> None:
    network, values, package = package_of(kind, tmp_path)
    graph = Graph(package, device="cpu", threads=1)
    states = [
        np.broadcast_to(np.expand_dims(s, p.batch_axis or 0), p.graph_shape(1, 1)).copy()
        for s, p in zip(package.initial_states, package.manifest.states, strict=True)
    ]

    with torch.no_grad():
        expected = network.make(torch.from_numpy(values[None]), *network.initial_state(1)).outputs
    pieces = []
    for step in values:
        outputs, states = graph.run([step[None, None]], states)
        pieces.append(outputs)

    for found, want in zip(zip(*pieces, strict=True), expected, strict=True):
        np.testing.assert_allclose(np.concatenate(found, 1), want.numpy(), rtol=1e-4, atol=1e-4)
    assert package.manifest.batch_exact is True
    assert not {n.op_type for n in onnx.load_from_string(package.onnx).graph.node} & FORBIDDEN


@pytest.mark.parametrize("kind", KINDS)
def test_quantiles_do_not_cross_and_a_broken_sensor_is_survived(kind: str) -> None:
    network, values = make(kind)
    x = torch.from_numpy(values[None]).clone()
    x[0, 20, :2] = torch.tensor([1e30, -1e30])
    x[0, 40, :2] = torch.tensor([-3e38, 3e38])

    with torch.no_grad():
        made = network.make(x, *network.initial_state(1))

    quiet = torch.ones(x.shape[1], dtype=torch.bool)
    quiet[20:60] = False
    assert (made.outputs[0].diff(dim=-1)[:, quiet] >= 0).all()
    assert torch.isfinite(made.outputs[0][:, quiet]).all()
    assert all(torch.isfinite(s).all() for s in made.states)


@pytest.mark.parametrize("kind", [k for k in KINDS if KINDS[k].get("data", {}).get("time")])
def test_nothing_but_missing_values_leaves_everything_finite(kind: str) -> None:
    network, values = make(kind)
    x = torch.full((2, 9, values.shape[1]), torch.nan)

    with torch.no_grad():
        made = network.make(x, *network.initial_state(2))

    assert all(torch.isfinite(t).all() for t in (*made.outputs, *made.states))


def test_one_step_is_forecast_and_fed_back_where_a_recipe_rolls_out(tmp_path: Path) -> None:
    _, _, package = package_of("rollout", tmp_path)

    output, rules = package.manifest.outputs[0], package.manifest.forecast

    assert isinstance(rules, FeedbackRules)
    assert [(p.input_feature, p.output_feature, p.quantile_level) for p in rules.pairs] == [
        ("flow", "flow", 0.5),
        ("level", "level", 0.5),
    ]
    assert output.step_shape == (2, 1, 3)
    assert output.horizon_steps == (1,)
    assert output.carried_as == "forecast_last"


def test_a_rollout_from_a_live_state_is_the_network_fed_with_its_own_medians(tmp_path: Path) -> None:
    network, values, package = package_of("rollout", tmp_path)
    runner = Runner(package, RunnerOptions(max_sessions=4))
    slot = np.array([1], np.int32)
    runner.arena.reset(slot)
    runner.step(slot, [values[None, :40]])
    rules = package.manifest.forecast
    assert isinstance(rules, FeedbackRules)

    roll = Roll(runner, slot, [future_inputs(package.manifest, rules, {}, 5, has_answered=True)])
    roll.advance(5)

    with torch.no_grad():
        made = network.make(torch.from_numpy(values[None, :40]), *network.initial_state(1))
        for step in range(5):
            fed = made.outputs[0][:, -1:, [1, 0], 0, 1]  # targets are flow and level, columns level and flow
            np.testing.assert_allclose(roll.inputs[0][0, step], fed[0, 0], rtol=1e-4)
            made = network.make(fed, *made.states)
            np.testing.assert_allclose(roll.outputs[0][0, step], made.outputs[0][0, 0], rtol=1e-4)


@pytest.mark.parametrize("kind", ["basic", "linear"])
def test_packaging_leaves_a_network_in_the_mode_that_it_was_in(kind: str, tmp_path: Path) -> None:
    network, _, _ = package_of(kind, tmp_path)

    assert not any(part.training for part in network.modules())


def test_several_targets_have_an_axis_and_their_own_units(tmp_path: Path) -> None:
    _, _, package = package_of("several targets", tmp_path)

    output = package.manifest.outputs[0]

    assert output.step_shape == (2, 4, 3)
    assert (output.features, output.units) == (("flow", "level"), ("", "m"))
