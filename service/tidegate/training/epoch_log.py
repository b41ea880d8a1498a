"""The log of a training run: a CSV file with a row per epoch, written while the run goes on."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from tidegate.errors import ConfigError


@dataclass(frozen=True)
class Epoch:
    """An epoch that is done.

    Attributes:
        epoch: Counts from 1.
        train_loss: Quantile loss of the epoch, in standard deviations of the change to each horizon.
        validation_loss: The same on the validation split.
        best_loss: Lowest validation loss so far; that of this epoch, if it is the best.
        learning_rate: That it was trained with.
        duration_s: What it took, validation included.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    best_loss: float
    learning_rate: float
    duration_s: float


class EpochLog:
    """Writes the file. A run that is resumed writes the epochs that it knows of anew, so none is missing or double."""

    def __init__(self, path: Path) -> None:
        """Nothing is written yet."""
        self.path = path

    def begin(self, epochs: Iterable[Epoch]) -> None:
        """Write the header and the epochs that are done, in place of what is there.

        Raises:
            ConfigError: The file cannot be written.
        """
        self._write("w", [[field.name for field in fields(Epoch)], *map(astuple, epochs)])

    def append(self, epoch: Epoch) -> None:
        """Write a row.

        Raises:
            ConfigError: The file cannot be written.
        """
        self._write("a", [astuple(epoch)])

    def _write(self, mode: str, rows: Iterable[Iterable[object]]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open(mode, newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)
        except OSError as error:
            raise ConfigError(f"--log: {self.path}: {error.strerror}") from error
