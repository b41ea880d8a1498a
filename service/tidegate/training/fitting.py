"""A network on its way to its best weights: truncated back-propagation through time on the quantile loss.

In each epoch, runs go through some chunks of the training rows side by side. The state is handed from
chunk to chunk, and from epoch to epoch for the runs that go on; the gradient is not. So the network learns
both to live with a state that is years old and to do without one.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tidegate.errors import ConfigError
from tidegate.tensor import BoolArray
from tidegate.training.data import Series, Split
from tidegate.training.descent import learning_rate, make_optimiser
from tidegate.training.epoch_log import Epoch
from tidegate.training.forecasting import forecast_and_unit
from tidegate.training.loss import quantile_loss
from tidegate.training.networks import Forecaster
from tidegate.training.recipe import Recipe
from tidegate.training.runs import Runs


class Fit:
    """Owns a network and all that changes while it is trained.

    Everything is drawn from the recipe's seed, PyTorch's generator included, which the caller has seeded.

    Attributes:
        epochs: Those that are done, in order.
    """

    def __init__(
        self, network: Forecaster, recipe: Recipe, series: Series, split: Split, device: torch.device
    ) -> None:
        """Begin with the network's own weights.

        Args:
            network: Belongs to the fit from now on.
            recipe: How to train it.
            series: The data; rows of the test split are not touched.
            split: Its parts.
            device: Computes.
        """
        self.epochs: list[Epoch] = []
        self._network = network.to(device)
        self._plan = recipe.training
        self._series, self._validation = series, split.validation
        self._device = device
        self._levels = torch.tensor(recipe.forecast.quantile_levels, device=device)
        self._runs = Runs(series, split.train, recipe.num_horizons, self._plan, device)
        self._optimiser = make_optimiser(self._plan, network.parameters())
        self._states = self._cold_states()
        future, counts = series.futures(recipe.num_horizons, split.validation)
        self._validation_future = torch.from_numpy(future).to(device)
        self._validation_counts = torch.from_numpy(counts).to(device)
        self._best_weights = self._weights()

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest validation loss, counted from 1; 0 before the first."""
        best = min(self.epochs, key=lambda e: e.validation_loss, default=None)
        return 0 if best is None else best.epoch

    @property
    def is_done(self) -> bool:
        """All epochs are done, or the validation loss has stopped falling."""
        num_done = len(self.epochs)
        return num_done >= self._plan.max_epochs or num_done - self.best_epoch >= self._plan.patience_epochs

    def run_epoch(self) -> Epoch:
        """Train for an epoch and measure the validation loss.

        Raises:
            ConfigError: The loss is no number any more.
        """
        began_s = time.perf_counter()
        rate = learning_rate(self._plan, len(self.epochs))
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        train_loss = self._train()
        loss = self._validation_loss()
        number, best_loss = len(self.epochs) + 1, self.epochs[-1].best_loss if self.epochs else math.inf
        if not math.isfinite(train_loss + loss):
            raise ConfigError(
                f"training: expected a finite loss, got {train_loss} and {loss} in epoch {number}; "
                "a smaller learning_rate may help"
            )
        if loss < best_loss:
            best_loss, self._best_weights = loss, self._weights()
        took_s = time.perf_counter() - began_s
        self.epochs.append(Epoch(number, train_loss, loss, best_loss, rate, round(took_s, 3)))
        return self.epochs[-1]

    def best_network(self) -> Forecaster:
        """The network with the weights that did best on the validation split, on the CPU; ends the fit."""
        self._network.load_state_dict(self._best_weights)
        return self._network.cpu().eval()

    def snapshot(self) -> dict[str, Any]:
        """All that decides how the fit goes on, as tensors and plain values of its own."""
        on_gpu = {"cuda_random": torch.cuda.get_rng_state()} if self._device.type == "cuda" else {}
        parts = {
            "weights": self._network.state_dict(),
            "best_weights": self._best_weights,
            "optimiser": self._optimiser.state_dict(),
            "runs": self._runs.snapshot(),
            "states": list(self._states),
            "random": torch.get_rng_state(),
            **on_gpu,
            "epochs": [list(astuple(epoch)) for epoch in self.epochs],
        }
        return copy.deepcopy(parts)

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from a snapshot of a fit by the same recipe on the same data and the same kind of device."""
        self._network.load_state_dict(snapshot["weights"])
        self._best_weights = snapshot["best_weights"]
        self._optimiser.load_state_dict(snapshot["optimiser"])
        self._runs.restore(snapshot["runs"])
        self._states = tuple(state.to(self._device) for state in snapshot["states"])
        torch.set_rng_state(snapshot["random"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(snapshot["cuda_random"])
        self.epochs = [Epoch(*values) for values in snapshot["epochs"]]

    def _train(self) -> float:
        """One epoch; the mean loss of its chunks."""
        self._network.train()
        self._begin_anew(self._runs.begin_epoch())
        losses = []
        for chunk in self._runs.chunks():
            made = self._network.make(chunk.values, *self._states)
            loss = quantile_loss(made.trained, chunk.future, chunk.counts, self._levels, made.unit)
            self._optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), self._plan.max_gradient_norm)
            self._optimiser.step()
            self._states = tuple(state.detach() for state in made.states)
            losses.append(loss.item())
        return float(np.mean(losses))

    def _validation_loss(self) -> float:
        self._network.eval()
        forecasts, unit = forecast_and_unit(self._network, self._series, self._validation)
        future, counts = self._validation_future, self._validation_counts
        return quantile_loss(forecasts, future, counts, self._levels, unit).item()

    def _begin_anew(self, is_cold: BoolArray) -> None:
        """Take from some runs what they carry."""
        mask = torch.from_numpy(is_cold).to(self._device)
        axes = [pair.batch_axis or 0 for pair in self._network.state_pairs()]
        self._states = tuple(
            torch.where(mask.view(_along(axis, state.dim())), cold, state)
            for axis, state, cold in zip(axes, self._states, self._cold_states(), strict=True)
        )

    def _cold_states(self) -> tuple[Tensor, ...]:
        return tuple(s.to(self._device) for s in self._network.initial_state(self._plan.batch_size))

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self._network.state_dict().items()}


def _along(axis: int, num_axes: int) -> Sequence[int]:
    """The shape that lays a vector along one of several axes."""
    return [-1 if a == axis else 1 for a in range(num_axes)]
