"""A training that was interrupted ends, when it is begun again, in the package that it would have made."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tidegate.training.epoch_log import Epoch
from tidegate.training.recipe import read_recipe
from tidegate.training.recipe_run import run_recipe
from tidegate.training.train import Watcher

NUM_EPOCHS = 8


class Interruption(Exception):
    """Whatever ends a process."""


@dataclass
class Told:
    """What a run told, and the epoch after which it is interrupted; 0: none."""

    last_epoch: int = 0
    resumed_after: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def begun(self, epochs: Sequence[Epoch]) -> None:
        self.resumed_after.append(len(epochs))

    def epoch_done(self, epoch: Epoch) -> None:
        self.epochs.append(epoch.epoch)
        if epoch.epoch == self.last_epoch:
            raise Interruption

    @property
    def watcher(self) -> Watcher:
        return Watcher(self.begun, self.epoch_done, self.notices.append)


@pytest.fixture
def recipe_path(recipe_path: Path) -> Path:
    """Dropout and runs that go on: what happens in an epoch depends on all those before."""
    text = recipe_path.read_text().replace("lags = [1, 7]", "lags = [1, 7]\ndropout = 0.2")
    recipe_path.write_text(text.replace("max_epochs = 3", f"max_epochs = {NUM_EPOCHS}\ncold_share = 0.5"))
    return recipe_path


@pytest.fixture
def run(recipe_path: Path, tmp_path: Path) -> Callable[..., Told]:
    """Runs the recipe, interrupted after an epoch."""

    def run(repository: str, *, last_epoch: int = 0, restart: bool = False) -> Told:
        told = Told(last_epoch)
        try:
            run_recipe(read_recipe(recipe_path), tmp_path / repository, restart=restart, watcher=told.watcher)
        except Interruption:
            assert not (tmp_path / repository / "tiny" / "1").exists()
        return told

    return run


def package_bytes(repository: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (repository / "tiny" / "1").iterdir()}


def logged(path: Path) -> list[dict[str, str]]:
    """The log without how long the epochs took."""
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "duration_s"} for row in csv.DictReader(file)]


@pytest.mark.parametrize("interruptions", [(1,), (3, 4), (NUM_EPOCHS,)])
def test_a_resumed_training_makes_the_same_package(
    run: Callable[..., Told], tmp_path: Path, interruptions: tuple[int, ...]
) -> None:
    whole = run("whole")

    told = [run("parts", last_epoch=last) for last in interruptions] + [run("parts")]

    assert package_bytes(tmp_path / "parts") == package_bytes(tmp_path / "whole")
    assert [number for one in told for number in one.epochs] == whole.epochs
    assert [one.resumed_after[0] for one in told] == [0, *interruptions]


def test_the_log_has_every_epoch_once(run: Callable[..., Told], tmp_path: Path) -> None:
    run("whole")

    run("parts", last_epoch=3)
    run("parts")

    log = logged(tmp_path / "parts" / "tiny" / "training-1.csv")
    assert [row["epoch"] for row in log] == [str(n) for n in range(1, NUM_EPOCHS + 1)]
    assert log == logged(tmp_path / "whole" / "tiny" / "training-1.csv")


def test_nothing_but_package_and_log_is_left(run: Callable[..., Told], tmp_path: Path) -> None:
    run("parts", last_epoch=3)
    before = sorted(path.name for path in (tmp_path / "parts" / "tiny").iterdir())

    run("parts")

    assert before == [".training-1", "training-1.csv"]
    assert sorted(path.name for path in (tmp_path / "parts" / "tiny").iterdir()) == ["1", "training-1.csv"]


def test_another_recipe_begins_anew_and_says_so_and_the_first_is_still_resumed(
    run: Callable[..., Told], recipe_path: Path
) -> None:
    first = recipe_path.read_text()
    run("models", last_epoch=3)
    recipe_path.write_text(first.replace("seed = 3", "seed = 4"))

    other = run("models", last_epoch=2)
    recipe_path.write_text(first)
    again = run("models")

    assert (other.resumed_after, len(other.notices)) == ([0], 1)
    assert "holds an interrupted training by another recipe" in other.notices[0]
    assert (again.resumed_after, again.notices) == ([3], [])


def test_other_data_begin_anew(run: Callable[..., Told], tmp_path: Path) -> None:
    run("models", last_epoch=3)
    with (tmp_path / "tiny.csv").open("a") as file:
        file.write("2020-06-29,12\n")

    assert run("models").resumed_after == [0]


def test_a_comment_or_a_description_begins_nothing_anew(run: Callable[..., Told], recipe_path: Path) -> None:
    run("models", last_epoch=3)
    recipe_path.write_text("# A small one.\ndescription = 'levels'\n" + recipe_path.read_text())

    assert run("models").resumed_after == [3]


def test_asked_to_a_training_begins_anew(run: Callable[..., Told]) -> None:
    run("models", last_epoch=3)

    again = run("models", restart=True)

    assert (again.resumed_after, again.notices) == ([0], [])


def test_a_damaged_checkpoint_is_named_and_training_begins_anew(
    run: Callable[..., Told], tmp_path: Path
) -> None:
    run("models", last_epoch=3)
    (checkpoint,) = (tmp_path / "models" / "tiny" / ".training-1").iterdir()
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])

    again = run("models")

    assert again.resumed_after == [0]
    assert again.notices == [f"{checkpoint} is damaged: training begins anew"]


KILLED = """
import importlib, os, signal, sys
from tidegate.cli import main

module, name, calls_left = importlib.import_module(sys.argv[1]), sys.argv[2], int(sys.argv[3])
really = getattr(module, name)

def counted(*arguments, **options):
    global calls_left
    calls_left -= 1
    if calls_left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return really(*arguments, **options)

setattr(module, name, counted)
main(sys.argv[4:])
"""
"""The command, which kills itself at the n-th call of a function: no less dead than by another's hand, and always there."""

MOMENTS = {
    "in the midst of an epoch": ("torch.nn.utils", "clip_grad_norm_", "5"),
    "in the midst of a checkpoint": ("os", "fsync", "3"),
    "in the midst of the export": ("torch.onnx", "export", "1"),
    "in the midst of the package": ("os", "fsync", "2"),
}


@pytest.mark.slow
def test_a_command_that_is_killed_again_and_again_makes_the_same_package(
    run: Callable[..., Told], recipe_path: Path, tmp_path: Path
) -> None:
    run("whole")
    models = tmp_path / "killed"
    arguments = ["train", str(recipe_path), "--models", str(models)]
    resumed = []

    for moment, calls in MOMENTS.items():
        done = subprocess.run(
            [sys.executable, "-c", KILLED, *calls, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == -signal.SIGKILL, (moment, done.stderr)
        assert not (models / "tiny" / "1").exists()
        resumed += re.findall(r"resumes after epoch (\d)", done.stderr)
    command = [sys.executable, "-m", "tidegate.cli", *arguments]
    last = subprocess.run(command, check=True, capture_output=True, text=True)

    assert resumed == ["2", "3", "8"]
    assert "tiny/1: resumes after epoch 8 of 8" in last.stderr
    assert package_bytes(models) == package_bytes(tmp_path / "whole")
    assert logged(models / "tiny" / "training-1.csv") == logged(
        tmp_path / "whole" / "tiny" / "training-1.csv"
    )
