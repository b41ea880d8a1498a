"""The anomaly score against its formula, and what calibration promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tidegate.training.networks import AnomalyScore

LEVELS = (0.1, 0.5, 0.9)
QUANTILES = [10.0, 20.0, 40.0]


def make(num_targets: int = 1) -> AnomalyScore:
    return AnomalyScore(LEVELS, np.full(num_targets, 0.01))


def surprise(value: float, quantiles: list[float] = QUANTILES) -> float:
    found: float = make().surprise(torch.tensor([float(value)]), torch.tensor([quantiles])).item()
    return found


@pytest.mark.parametrize(
    ("value", "position"),
    [(20, 0.5), (10, 0.1), (40, 0.9), (15, 0.3), (30, 0.7), (0, -0.3), (80, 1.7), (-1000, 0.1 - 40.4)],
)
def test_surprise_is_the_distance_from_the_middle_of_the_forecast(value: float, position: float) -> None:
    assert surprise(value) == pytest.approx(abs(2 * position - 1), rel=1e-4, abs=1e-6)


def test_quantiles_that_lie_on_each_other_divide_nothing_by_zero() -> None:
    assert surprise(20.0, [20.0, 20.0, 20.0]) == pytest.approx(0.8)
    assert np.isfinite(surprise(20.1, [20.0, 20.0, 20.0]))


def test_calibrated_scores_are_spread_evenly_and_rise_with_surprise() -> None:
    random = np.random.default_rng(3)
    score = make(2)
    past = np.stack([random.exponential(1.0, 4000), random.exponential(9.0, 4000) ** 2], 1)

    score.calibrate(past, np.ones(past.shape, np.bool_))
    found = score._calibrated(torch.from_numpy(past.astype(np.float32))).numpy()

    for level in (0.5, 0.9, 0.99):
        assert (found > level).mean(0) == pytest.approx(1 - level, abs=0.002)
    for k in range(2):
        assert (np.diff(found[np.argsort(past[:, k]), k]) >= -1e-6).all()
    assert ((found >= 0) & (found <= 1)).all()


def test_a_surprise_beyond_all_that_was_seen_scores_nearly_one() -> None:
    score = make()
    score.calibrate(np.linspace(0, 1, 500)[:, None], np.ones((500, 1), np.bool_))

    found = score._calibrated(torch.tensor([[1.0], [2.0], [1e30], [torch.inf]])).flatten()

    assert (found.diff() >= 0).all()
    assert found[0] > 0.98
    assert found[2:].tolist() == [1, 1]


def test_each_value_is_held_against_the_forecast_of_the_step_before() -> None:
    score = make()
    x = torch.tensor([[[20.0], [40.0], [20.0]]])
    quantiles = torch.tensor([QUANTILES, [39.0, 40.0, 41.0], QUANTILES])[None, :, None]

    found, expected, expects = score(x, quantiles, None, *(s.start(1) for s in score.carried))

    assert found[0, 0].item() == 0  # nothing was expected
    assert found[0, 1].item() == pytest.approx(0.8)  # 40 under 10, 20, 40
    assert found[0, 2].item() > 0.999  # 20 under 39, 40, 41
    assert expected.flatten().tolist() == QUANTILES
    assert expects.item() == 1


def test_a_missing_value_is_no_anomaly() -> None:
    score = make()
    x, quantiles = torch.tensor([[[20.0], [900.0]]]), torch.tensor([QUANTILES, QUANTILES])[None, :, None]

    found, *_ = score(x, quantiles, torch.ones_like(x), *(s.start(1) for s in score.carried))

    assert found.flatten().tolist() == [0, 0]
