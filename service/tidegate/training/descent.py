"""How weights step down the loss: the optimisers and schedules that a recipe can name."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from tidegate.training.training_recipe import TrainingRecipe

MOMENTUM = 0.9
"""Of plain gradient descent."""


def make_optimiser(plan: TrainingRecipe, weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a recipe; its learning rate is set before every epoch."""
    if plan.optimiser == "sgd":
        return torch.optim.SGD(weights, plan.learning_rate, momentum=MOMENTUM, weight_decay=plan.weight_decay)
    return torch.optim.AdamW(weights, plan.learning_rate, weight_decay=plan.weight_decay)


def learning_rate(plan: TrainingRecipe, epoch: int) -> float:
    """Of an epoch, which count from 0."""
    if plan.schedule == "constant":
        return plan.learning_rate
    final = plan.learning_rate / 100
    return final + (plan.learning_rate - final) * (1 + math.cos(math.pi * epoch / plan.max_epochs)) / 2
