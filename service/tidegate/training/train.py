"""Finding the weights: truncated back-propagation through time on the quantile loss.

Each epoch is one batch of long runs. A run starts cold at a random row of the training split and goes on
for several chunks; the state is handed from chunk to chunk, the gradient is not. So the network learns
both to live with a state that is years old and to do without one. Everything is drawn from the recipe's
seed and computed on one thread: the same recipe gives the same bytes on the same machine.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tidegate.tensor import Array
from tidegate.training.building import build_network
from tidegate.training.data import Series, Split
from tidegate.training.networks import Forecaster, Made
from tidegate.training.recipe import Recipe, TrainingRecipe


@dataclass(frozen=True)
class Progress:
    """Where a training run stands after an epoch.

    Attributes:
        epoch: Epochs done.
        train_loss: Quantile loss of the epoch, in standard deviations of the change to each horizon.
        validation_loss: The same on the validation split.
        best_loss: Lowest validation loss so far.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    best_loss: float


def train(
    recipe: Recipe, series: Series, split: Split, report: Callable[[Progress], None] = lambda _: None
) -> Forecaster:
    """Train the network that a recipe describes.

    Args:
        recipe: What to build and how to train it.
        series: The data; rows of the test split are not touched.
        split: Its parts.
        report: Called after every epoch.

    Returns:
        The network with the weights that did best on the validation split.
    """
    with _one_reproducible_thread():
        torch.manual_seed(recipe.training.seed)
        network = build_network(recipe, series, split)
        _fit(network, recipe, series, split, report)
    return network.eval()


def forecast_rows(network: Forecaster, series: Series, rows: slice) -> Array:
    """Quantiles made at each of `rows` by a session that began at row 0.

    Returns:
        [rows, K, Q] or, for several targets, [rows, M, K, Q], float32.
    """
    forecasts: Array = make_rows(network, series, rows).forecasts.numpy()
    return forecasts


def make_rows(network: Forecaster, series: Series, rows: slice) -> Made:
    """What a network that began at row 0 makes at each of `rows`; tensors without their batch axis."""
    with torch.no_grad():
        x = torch.from_numpy(series.values[None, : rows.stop])
        made = network.make(x, *network.initial_state(1))
    unit = made.unit[0, rows.start :] if made.unit.dim() > made.forecasts.dim() - 2 else made.unit
    return made._replace(forecasts=made.forecasts[0, rows.start :], unit=unit)


def quantile_loss(forecasts: Tensor, future: Tensor, counts: Tensor, levels: Tensor, unit: Tensor) -> Tensor:
    """Mean pinball loss over the futures that count.

    Args:
        forecasts: Quantiles, [..., K, Q].
        future: What happened, [..., K].
        counts: Which futures count, [..., K], bool.
        levels: Quantile levels, [Q].
        unit: What an error is measured in; broadcasts to the futures.
    """
    error = (future[..., None] - forecasts) / unit[..., None]
    loss = torch.maximum(levels * error, (levels - 1) * error).sum(-1)
    return (loss * counts).sum() / counts.sum().clamp(min=1)


class _Runs:
    """Batches of runs through the training split, each starting cold at a random row."""

    def __init__(self, series: Series, rows: slice, num_horizons: int, recipe: TrainingRecipe) -> None:
        future, counts = series.futures(num_horizons, rows)
        self._values = series.values[rows]
        self._future = future
        self._counts = counts
        self._recipe = recipe
        self._random = np.random.default_rng(recipe.seed)

    def chunks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Values [B, T, F], futures [B, T, K] and which of them count, chunk after chunk."""
        recipe = self._recipe
        last_start = len(self._values) - recipe.run_chunks * recipe.chunk_steps
        starts = self._random.integers(0, last_start + 1, recipe.batch_size)[:, None]
        for chunk in range(recipe.run_chunks):
            rows = starts + chunk * recipe.chunk_steps + np.arange(recipe.chunk_steps)
            yield (
                torch.from_numpy(self._values[rows]),
                torch.from_numpy(self._future[rows]),
                torch.from_numpy(self._counts[rows]),
            )


def _fit(
    network: Forecaster, recipe: Recipe, series: Series, split: Split, report: Callable[[Progress], None]
) -> None:
    plan = recipe.training
    runs = _Runs(series, split.train, recipe.num_horizons, plan)
    optimiser = torch.optim.AdamW(network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
    levels = torch.tensor(recipe.forecast.quantile_levels)
    best_loss, best_weights, best_epoch = math.inf, copy.deepcopy(network.state_dict()), 0
    for epoch in range(plan.max_epochs):
        optimiser.param_groups[0]["lr"] = _learning_rate(plan, epoch)
        train_loss = _train_epoch(network, optimiser, runs, levels, plan)
        loss = _validation_loss(network, series, split.validation, levels)
        if loss < best_loss:
            best_loss, best_weights, best_epoch = loss, copy.deepcopy(network.state_dict()), epoch
        report(Progress(epoch + 1, train_loss, loss, best_loss))
        if epoch - best_epoch >= plan.patience_epochs:
            break
    network.load_state_dict(best_weights)


def _train_epoch(
    network: Forecaster, optimiser: torch.optim.Optimizer, runs: _Runs, levels: Tensor, plan: TrainingRecipe
) -> float:
    network.train()
    state = network.initial_state(plan.batch_size)
    losses = []
    for values, future, counts in runs.chunks():
        made = network.make(values, *state)
        loss = quantile_loss(made.forecasts, future, counts, levels, made.unit)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), plan.max_gradient_norm)
        optimiser.step()
        state = tuple(s.detach() for s in made.states)
        losses.append(loss.item())
    return float(np.mean(losses))


def _validation_loss(network: Forecaster, series: Series, rows: slice, levels: Tensor) -> float:
    network.eval()
    made = make_rows(network, series, rows)
    future, counts = (torch.from_numpy(a) for a in series.futures(made.forecasts.shape[-2], rows))
    return quantile_loss(made.forecasts, future, counts, levels, made.unit).item()


def _learning_rate(plan: TrainingRecipe, epoch: int) -> float:
    final = plan.learning_rate / 100
    return final + (plan.learning_rate - final) * (1 + math.cos(math.pi * epoch / plan.max_epochs)) / 2


@contextmanager
def _one_reproducible_thread() -> Iterator[None]:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    # As ONNX Runtime sets it for the thread that opens its first session: otherwise the second training
    # of a process would round other numbers to zero than the first.
    torch.set_flush_denormal(True)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
