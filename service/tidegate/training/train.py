"""Training as one piece: from a recipe and its series to a network, resumed where it was interrupted.

Everything is drawn from the recipe's seed and computed on one thread: on the CPU the same recipe gives the
same bytes on the same machine, however often it was interrupted on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from tidegate.training.building import build_network
from tidegate.training.calibrating import calibrate_anomaly, calibrate_widths
from tidegate.training.checkpoints import Checkpoints
from tidegate.training.data import Series, Split
from tidegate.training.devices import pick_device, reproducible
from tidegate.training.epoch_log import Epoch, EpochLog
from tidegate.training.fitting import Fit
from tidegate.training.forecasting import forecast_rows
from tidegate.training.networks import Forecaster
from tidegate.training.recipe import Recipe


def _ignore(_: object) -> None:
    pass


@dataclass(frozen=True)
class Watcher:
    """Is told how a run goes; an exception that it raises interrupts the run.

    Attributes:
        begun: Called with the epochs that were done before: none, or those of the run that is resumed.
        epoch_done: Called after every epoch, when it can be resumed from.
        notice: Called with what someone should know who expected something else.
        data_read: Called with the rows of each part, before the first long computation.
    """

    begun: Callable[[Sequence[Epoch]], None] = _ignore
    epoch_done: Callable[[Epoch], None] = _ignore
    notice: Callable[[str], None] = _ignore
    data_read: Callable[[Split], None] = _ignore


@dataclass(frozen=True)
class Records:
    """What a run leaves on the disk while it goes on.

    Attributes:
        checkpoints: To resume it from.
        log: To look at.
    """

    checkpoints: Checkpoints
    log: EpochLog


def train(
    recipe: Recipe,
    series: Series,
    split: Split,
    *,
    watcher: Watcher | None = None,
    records: Records | None = None,
) -> Forecaster:
    """Train the network that a recipe describes.

    Args:
        recipe: What to build and how to train it.
        series: The data; rows of the test split are not touched.
        split: Its parts.
        watcher: Is told of every epoch.
        records: Where the run is kept, and resumed from if it was begun before; None: nowhere.

    Returns:
        The network with the weights that did best on the validation split, on the CPU.

    Raises:
        ConfigError: There is no such device, the loss is no number any more, or a record cannot be written.
    """
    device = pick_device(recipe.training.device)
    with reproducible(device):
        torch.manual_seed(recipe.training.seed)
        fit = Fit(build_network(recipe, series, split), recipe, series, split, device)
        _run(fit, watcher or Watcher(), records)
        network = fit.best_network()
        _calibrate(network, recipe, series, split)
    return network


def _calibrate(network: Forecaster, recipe: Recipe, series: Series, split: Split) -> None:
    if recipe.forecast.calibrate:
        rows = slice(recipe.network.reach_steps, split.validation.stop)
        calibrate_widths(network, recipe, forecast_rows(network, series, rows), series, rows)
    if recipe.anomaly is not None:
        rows = split.validation
        calibrate_anomaly(network, forecast_rows(network, series, rows), series, rows)


def _run(fit: Fit, watcher: Watcher, records: Records | None) -> None:
    if records is not None:
        _resume(fit, watcher, records.checkpoints)
        records.log.begin(fit.epochs)
    watcher.begun(fit.epochs)
    while not fit.is_done:
        epoch = fit.run_epoch()
        if records is not None:
            records.checkpoints.save(fit.snapshot())
            records.log.append(epoch)
        watcher.epoch_done(epoch)


def _resume(fit: Fit, watcher: Watcher, checkpoints: Checkpoints) -> None:
    checkpoint = checkpoints.load()
    if checkpoint is not None:
        fit.restore(checkpoint)
    elif checkpoints.path.exists():
        watcher.notice(f"{checkpoints.path} is damaged: training begins anew")
    elif checkpoints.num_others:
        watcher.notice(
            f"{checkpoints.folder} holds an interrupted training by another recipe, other data or another version "
            "of the code: training begins anew, and that one is kept until this version is made"
        )
