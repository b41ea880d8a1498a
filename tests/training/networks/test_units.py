"""The session's own mean and scale against their formulas, in float64 and written out step by step."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tidegate.training.networks import ChangeUnit, LevelUnit, Memory
from tidegate.training.networks.units import MIN_SCALE, RunningKind, Unit

MEAN, STD, USUAL = 20.0, 4.0, 0.5


def weight(kind: RunningKind, count: float, num_steps: int) -> float:
    """As `Memory` says: the training rows count for a tenth of the memory."""
    plain = 1 / (1 + num_steps / 10 + count)
    if kind == "running":
        return max(plain, 1 / num_steps)
    return plain if count < num_steps else 0.0


def run(unit: Unit, values: list[float], missing: tuple[int, ...] = ()) -> list[np.ndarray]:
    x = torch.tensor(values, dtype=torch.float32)[None, :, None]
    marks = torch.zeros_like(x)
    marks[:, list(missing)] = 1
    found = unit(x, marks, *(s.start(1) for s in unit.carried))
    return [t.flatten().numpy() for t in found]


def series(seed: int = 5) -> list[float]:
    return (np.random.default_rng(seed).normal(30, 2, 60).cumsum() / 10).tolist()


@pytest.mark.parametrize("kind", ["running", "frozen"])
def test_the_level_is_measured_by_the_exponentially_weighted_mean_and_scale(kind: RunningKind) -> None:
    values, missing = series(), (3, 4, 30)

    level, unit, *_ = run(LevelUnit(np.array([MEAN]), np.array([STD]), Memory(kind, 20)), values, missing)

    mean, variance, count = MEAN, STD**2, 0.0
    for step, x in enumerate(values):
        if step not in missing:
            a = weight(kind, count, 20)
            distance = max(-10.0, min(10.0, (x - mean) / math.sqrt(variance))) * math.sqrt(variance)
            mean, variance = mean + a * distance, (1 - a) * (variance + a * distance**2)
            count += 1
        assert unit[step] == pytest.approx(math.sqrt(variance), rel=1e-4)
        assert level[step] == pytest.approx(np.clip((x - mean) / math.sqrt(variance), -10, 10), abs=1e-3)


@pytest.mark.parametrize("kind", ["running", "frozen"])
def test_the_size_of_changes_is_their_exponentially_weighted_root_mean_square(kind: RunningKind) -> None:
    values = series()

    size, *_ = run(ChangeUnit(np.array([USUAL]), Memory(kind, 20)), values)

    square = 1.0
    assert size[0] == 1
    for step in range(1, len(values)):
        a = weight(kind, min(step, 20), 20)
        change = (values[step] - values[step - 1]) / USUAL
        square += a * (min(change**2, 100 * square) - square)
        assert size[step] == pytest.approx(math.sqrt(square), rel=1e-4)


def test_what_is_frozen_no_longer_moves_and_what_runs_does() -> None:
    calm, wild = [20.0, 21.0] * 20, [60.0, 10.0] * 20
    units = {
        kind: LevelUnit(np.array([MEAN]), np.array([STD]), Memory(kind, 20)) for kind in ("running", "frozen")
    }

    after = {kind: run(unit, calm + wild)[1] for kind, unit in units.items()}

    assert len(set(after["frozen"][20:].tolist())) == 1
    assert after["running"][-1] > 5 * after["running"][39]


def test_a_single_broken_value_does_not_blind_a_session() -> None:
    unit = LevelUnit(np.array([MEAN]), np.array([STD]), Memory("running", 100))

    _, scale, *_ = run(unit, [*series()[:30], -9999.0, *series()[30:]])

    assert scale.max() < 3 * scale[29]


def test_a_session_that_never_moves_keeps_a_scale() -> None:
    level = run(LevelUnit(np.array([MEAN]), np.array([STD]), Memory("running", 2)), [5.0] * 200)[1]
    change = run(ChangeUnit(np.array([USUAL]), Memory("running", 2)), [5.0] * 200)[0]

    assert level[-1] == pytest.approx(MIN_SCALE * STD)
    assert change[-1] == pytest.approx(MIN_SCALE)


def test_the_training_rows_decide_at_first() -> None:
    level, unit, *_ = run(LevelUnit(np.array([MEAN]), np.array([STD]), Memory("running", 500)), [22.0])

    assert level[0] == pytest.approx((22 - MEAN) / STD, rel=0.1)
    assert unit[0] == pytest.approx(STD, rel=0.1)


def test_a_mean_far_from_zero_is_followed_by_small_steps() -> None:
    """float32 knows no number between 10,000 and 10,000.0009, and a step moves the mean by less."""
    values = (10_000 + np.random.default_rng(3).normal(0.7, 1.5, 3000)).astype(np.float32).tolist()

    level, unit, *_ = run(LevelUnit(np.array([1e4]), np.array([1.0]), Memory("running", 10_000)), values)

    mean, variance = 1e4, 1.0
    for step, x in enumerate(values):
        a, distance = weight("running", step, 10_000), x - mean
        mean, variance = mean + a * distance, (1 - a) * (variance + a * distance**2)
    assert mean > 10_000.3
    assert values[-1] - level[-1] * unit[-1] == pytest.approx(mean, abs=2e-3)
    assert unit[-1] == pytest.approx(math.sqrt(variance), rel=1e-3)


@pytest.mark.parametrize("kind", ["running", "frozen"])
def test_a_state_that_no_session_has_makes_no_nan(kind: RunningKind) -> None:
    """The probe at load draws states at random, and NaN has more than one bit pattern."""
    units = (
        LevelUnit(np.array([MEAN]), np.array([STD]), Memory(kind, 2)),
        ChangeUnit(np.array([USUAL]), Memory(kind, 2)),
    )

    for unit in units:
        found = unit(
            torch.tensor([[[20.0], [21.0]]]), None, *(torch.full((1, 1), -1.0) for _ in unit.carried)
        )
        assert all(torch.isfinite(t).all() for t in found)
