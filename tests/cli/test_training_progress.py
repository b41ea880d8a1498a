"""What `tidegate train` shows while it trains."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from support.small_recipes import small_recipe
from tidegate.cli import training_progress
from tidegate.cli.training_progress import TrainingProgress
from tidegate.training.data import Split
from tidegate.training.epoch_log import Epoch

RECIPE = small_recipe("basic")


def epoch(number: int) -> Epoch:
    """The third is the best one."""
    loss = {3: 0.25}.get(number, 0.5)
    return Epoch(number, 0.75, loss, 0.25 if number >= 3 else 0.5, 0.01, 2.0)


def showing(shown: io.StringIO, *, is_terminal: bool) -> TrainingProgress:
    return TrainingProgress(RECIPE, Console(file=shown, force_terminal=is_terminal, width=120))


def test_without_a_terminal_the_first_epoch_is_a_line_and_the_end_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training_progress, "LINE_EVERY_S", float("inf"))
    shown = io.StringIO()

    with showing(shown, is_terminal=False) as progress:
        progress.watcher.begun([])
        for number in range(1, 6):
            progress.watcher.epoch_done(epoch(number))

    assert shown.getvalue().splitlines() == [
        "small/1: epoch 1 of 100: loss 0.5000, best 0.5000; 2 s an epoch, at most 198 s left",
        "small/1: trained for 5 epochs of 2 s; epoch 3 was best, with a loss of 0.2500 on the validation rows",
    ]


def test_without_a_terminal_a_line_follows_when_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_progress, "LINE_EVERY_S", 0.0)
    shown = io.StringIO()

    with showing(shown, is_terminal=False) as progress:
        progress.watcher.begun([])
        for number in (1, 2, 3):
            progress.watcher.epoch_done(epoch(number))

    assert [line.split(":")[1] for line in shown.getvalue().splitlines()[:3]] == [
        " epoch 1 of 100",
        " epoch 2 of 100",
        " epoch 3 of 100",
    ]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_resumed_run_says_where_and_goes_on_counting(is_terminal: bool) -> None:
    shown = io.StringIO()

    with showing(shown, is_terminal=is_terminal) as progress:
        progress.watcher.begun([epoch(n) for n in range(1, 18)])
        progress.watcher.epoch_done(epoch(18))

    assert "resumes after epoch 17 of 100" in shown.getvalue()
    assert ("18/100" if is_terminal else "epoch 18 of 100") in shown.getvalue()
    assert "trained for 18 epochs" in shown.getvalue()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_notice_is_shown(is_terminal: bool) -> None:
    shown = io.StringIO()

    with showing(shown, is_terminal=is_terminal) as progress:
        progress.watcher.notice("a checkpoint is damaged")

    assert "small/1: a checkpoint is damaged" in shown.getvalue()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_rows_of_each_part_are_told_before_the_first_epoch(is_terminal: bool) -> None:
    shown = io.StringIO()

    with showing(shown, is_terminal=is_terminal) as progress:
        progress.watcher.data_read(Split(slice(0, 8640), slice(8640, 11520), slice(11520, 14400)))

        assert "small/1: 8640 rows to train on, 2880 to validate by, 2880 held out" in shown.getvalue()


def end_by(error: BaseException, shown: io.StringIO) -> None:
    with showing(shown, is_terminal=True) as progress:
        progress.watcher.begun([])
        progress.watcher.epoch_done(epoch(1))
        raise error


def test_who_interrupts_it_is_told_how_to_go_on() -> None:
    shown = io.StringIO()

    with pytest.raises(KeyboardInterrupt):
        end_by(KeyboardInterrupt(), shown)

    assert "interrupted after epoch 1; the same command goes on from there" in shown.getvalue()
    assert "trained for" not in shown.getvalue()


def test_a_failure_is_not_called_an_end() -> None:
    shown = io.StringIO()

    with pytest.raises(ValueError, match="loss"):
        end_by(ValueError("loss"), shown)

    assert "trained for" not in shown.getvalue()
    assert "interrupted" not in shown.getvalue()
