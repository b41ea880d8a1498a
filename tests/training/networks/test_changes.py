"""Windows: what they hold, and what a young session puts in the place of what it has not seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tidegate.training.networks import Scaling, WindowChanges


def make(means: tuple[int, ...] = (3,), window: int = 5) -> WindowChanges:
    count = 1 + len(means)
    scaling = Scaling(np.zeros((count, 1)), np.ones((count, 1)), np.zeros(1), np.ones(1))
    return WindowChanges([1], scaling, means=means, window=window)


def run(changes: WindowChanges, values: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.tensor(values)[None, :, None]
    z, windows, *_ = changes(x, *(s.start(1) for s in changes.carried))
    return z[0], windows[0, :, 0]


def test_a_window_ends_with_the_current_value_and_is_told_as_distances() -> None:
    z, windows = run(make(), [1.0, 2, 4, 3, 7, 5])

    assert windows[5].tolist() == [2 - 5, 4 - 5, 3 - 5, 7 - 5, 0]
    assert z[5].tolist() == [5 - 7, 0]  # the mean of 3, 7 and 5 is 5
    assert z[4].tolist() == pytest.approx([7 - 3, 7 - 14 / 3])


def test_the_first_value_stands_for_those_before_it() -> None:
    z, windows = run(make(), [4.0, 6.0])

    assert windows[0].tolist() == [0, 0, 0, 0, 0]
    assert windows[1].tolist() == [-2, -2, -2, -2, 0]
    assert z[0].tolist() == [0, 0]
