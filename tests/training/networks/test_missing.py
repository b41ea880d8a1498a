"""Missing values: filled with the last one, marked, and their age told."""

from __future__ import annotations

import numpy as np
import torch

from tidegate.training.networks import Missing
from tidegate.training.networks.missing import HALF_AGE_STEPS, MAX_AGE_STEPS

NAN = float("nan")


def test_a_missing_value_is_the_last_one_marked_with_its_age() -> None:
    missing = Missing(np.array([50.0]))
    x = torch.tensor([[[NAN], [7.0], [NAN], [NAN], [8.0]]])

    values, is_missing, old, last, age = missing(x, *(s.start(1) for s in missing.carried))

    assert values.flatten().tolist() == [50, 7, 7, 7, 8]
    assert is_missing.flatten().tolist() == [1, 0, 1, 1, 0]
    ages = [MAX_AGE_STEPS, 0, 1, 2, 0]
    assert old.flatten().tolist() == torch.tensor([a / (a + HALF_AGE_STEPS) for a in ages]).tolist()
    assert (last.item(), age.item()) == (8, 0)


def test_a_column_that_stays_missing_grows_no_older_than_the_limit() -> None:
    missing = Missing(np.array([0.0]))

    *_, age = missing(torch.full((1, 3, 1), NAN), torch.zeros(1, 1), torch.full((1, 1), MAX_AGE_STEPS - 1))

    assert age.item() == MAX_AGE_STEPS
