"""A blended head: where its middle lies, what each part of it learns from, and widening."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tidegate.training.networks import BlendedHead, Head, QuantileHead, Scaling

SCALING = Scaling(np.zeros((1, 1)), np.ones((1, 1)), np.array([0.5, 1.0]), np.array([2.0, 3.0]))
ANCHOR, BASE = torch.full((4, 5, 1), 10.0), torch.full((4, 5, 2), 20.0)


def make_blended(num_quantiles: int = 3) -> BlendedHead:
    torch.manual_seed(0)
    head = BlendedHead(6, num_quantiles, SCALING, share=0.25)
    with torch.no_grad():
        for weights in head.parameters():
            weights.add_(torch.randn_like(weights))
    return head


def test_an_untrained_middle_lies_between_anchor_and_linear_forecast() -> None:
    head = BlendedHead(6, 3, SCALING, share=0.25)

    found = head(torch.randn(4, 5, 6), ANCHOR, BASE).forecasts[0, 0]

    torch.testing.assert_close(found[:, 1], torch.tensor([0.75 * 20 + 0.25 * 10.5, 0.75 * 20 + 0.25 * 11]))
    torch.testing.assert_close(found[:, 2] - found[:, 1], torch.tensor([2.0, 3.0]))
    torch.testing.assert_close(found[:, 1] - found[:, 0], torch.tensor([2.0, 3.0]))


def test_cells_learn_from_their_own_forecast_and_not_from_the_widths() -> None:
    head, hidden = make_blended(), torch.randn(4, 5, 6, requires_grad=True)

    trained = head(hidden, ANCHOR, BASE).trained
    (from_outer,) = torch.autograd.grad(trained[..., [0, 2]].sum(), hidden, retain_graph=True)
    (from_middle,) = torch.autograd.grad(trained[..., 1].sum(), hidden)

    assert not from_outer.any()
    weights = head.middle.weight * torch.tensor([[2.0], [3.0]])
    torch.testing.assert_close(from_middle[0, 0], weights.sum(0))


def test_what_is_trained_is_what_is_answered_but_for_the_middle() -> None:
    found = make_blended(5)(torch.randn(4, 5, 6), ANCHOR, BASE)

    assert torch.equal(found.forecasts[..., [0, 1, 3, 4]], found.trained[..., [0, 1, 3, 4]])
    torch.testing.assert_close(found.forecasts[..., 2], 0.75 * BASE + 0.25 * found.trained[..., 2])
    assert (found.forecasts.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize(
    "head", [make_blended(5), QuantileHead(6, 5, SCALING)], ids=lambda h: type(h).__name__
)
def test_widening_scales_each_distance_and_moves_no_middle(head: Head) -> None:
    hidden = torch.randn(4, 5, 6)
    inputs = (hidden, ANCHOR, BASE) if isinstance(head, BlendedHead) else (hidden, ANCHOR)
    before = head(*inputs).forecasts
    factors = torch.tensor([[0.5, 2.0], [3.0, 1.0], [1.5, 0.25], [1.0, 4.0]])

    head.widen(factors)
    after = head(*inputs).forecasts

    torch.testing.assert_close(after[..., 2], before[..., 2])
    torch.testing.assert_close(after.diff(dim=-1), before.diff(dim=-1) * factors.T, rtol=1e-4, atol=1e-4)
