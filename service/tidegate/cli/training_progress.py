"""What `tidegate train` shows while it trains: a bar where someone watches, else a line now and then."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tidegate.training.data import Split
from tidegate.training.epoch_log import Epoch
from tidegate.training.recipe import Recipe
from tidegate.training.train import Watcher

LINE_EVERY_S = 10.0
"""Where nobody watches, a line is written no more often than this, but for the first and the last."""


class TrainingProgress:
    """Shows a run from the first epoch to the package; used as a context."""

    def __init__(self, recipe: Recipe, console: Console) -> None:
        """Prepare.

        Args:
            recipe: That is trained.
            console: Where to show it.
        """
        self._label = f"{recipe.name}/{recipe.version}"
        self._max_epochs = recipe.training.max_epochs
        self._console = console
        self._done: list[Epoch] = []
        self._num_resumed = 0
        self._written_at_s = float("-inf")
        columns = (TextColumn(self._label), BarColumn(bar_width=20), MofNCompleteColumn())
        loss = TextColumn("{task.fields[loss]}  at most")
        self._bar = Progress(*columns, loss, TimeRemainingColumn(), console=console, transient=True)

    @property
    def watcher(self) -> Watcher:
        """Is told how the run goes."""
        return Watcher(begun=self._begin, epoch_done=self._show, notice=self._say, data_read=self._tell_rows)

    def __enter__(self) -> TrainingProgress:
        """Begin to show."""
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away and say how it ended."""
        if self._console.is_terminal:
            self._bar.stop()
        if kind is KeyboardInterrupt and self._done:
            self._say(f"interrupted after epoch {self._done[-1].epoch}; the same command goes on from there")
        elif kind is None and self._done:
            self._say(self._summary())

    def _tell_rows(self, split: Split) -> None:
        train, validation, test = (
            part.stop - part.start for part in (split.train, split.validation, split.test)
        )
        self._say(f"{train} rows to train on, {validation} to validate by, {test} held out")

    def _begin(self, epochs: Sequence[Epoch]) -> None:
        self._done = list(epochs)
        self._num_resumed = len(epochs)
        if epochs:
            self._say(f"resumes after epoch {len(epochs)} of {self._max_epochs}")
        if self._console.is_terminal:
            # Not by an update: the bar would take the epochs that were done before for fast ones.
            self._bar.add_task("", total=self._max_epochs, completed=len(epochs), loss="")

    def _show(self, epoch: Epoch) -> None:
        self._done.append(epoch)
        is_first = len(self._done) == self._num_resumed + 1
        if self._console.is_terminal:
            loss = f"loss {epoch.validation_loss:.4f}  best {epoch.best_loss:.4f}"
            self._bar.update(self._bar.task_ids[0], completed=epoch.epoch, loss=loss)
        elif is_first or time.monotonic() - self._written_at_s >= LINE_EVERY_S:
            self._written_at_s = time.monotonic()
            self._say(self._line(epoch))

    def _line(self, epoch: Epoch) -> str:
        left_s = (self._max_epochs - epoch.epoch) * self._epoch_s
        return (
            f"epoch {epoch.epoch} of {self._max_epochs}: loss {epoch.validation_loss:.4f}, "
            f"best {epoch.best_loss:.4f}; {self._epoch_s:.2g} s an epoch, at most {left_s:.0f} s left"
        )

    def _summary(self) -> str:
        best = min(self._done, key=lambda e: e.validation_loss)
        return (
            f"trained for {len(self._done)} epochs of {self._epoch_s:.2g} s; "
            f"epoch {best.epoch} was best, with a loss of {best.validation_loss:.4f} on the validation rows"
        )

    @property
    def _epoch_s(self) -> float:
        return sum(e.duration_s for e in self._done) / len(self._done)

    def _say(self, text: str) -> None:
        self._console.print(f"{self._label}: {text}", highlight=False, soft_wrap=True)
