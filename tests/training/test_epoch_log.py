"""The log has each epoch once, from the first one on."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tidegate.errors import ConfigError
from tidegate.training.epoch_log import Epoch, EpochLog


def epoch(number: int) -> Epoch:
    return Epoch(number, 0.5 / number, 0.7 / number, 0.7 / number, 0.01, 0.125)


def test_a_row_is_an_epoch(tmp_path: Path) -> None:
    log = EpochLog(tmp_path / "new" / "log.csv")
    log.begin([])

    log.append(epoch(1))
    log.append(epoch(2))

    assert log.path.read_text() == (
        "epoch,train_loss,validation_loss,best_loss,learning_rate,duration_s\n"
        "1,0.5,0.7,0.7,0.01,0.125\n"
        "2,0.25,0.35,0.35,0.01,0.125\n"
    )


def test_beginning_again_leaves_the_epochs_that_count(tmp_path: Path) -> None:
    log = EpochLog(tmp_path / "log.csv")
    log.begin([])
    for number in (1, 2, 3):
        log.append(epoch(number))
    with log.path.open("a") as file:
        file.write("4,0.1")  # the process was killed here

    log.begin([epoch(1), epoch(2)])
    log.append(epoch(3))

    with log.path.open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--log: .*: Is a directory"):
        EpochLog(tmp_path).begin([])
