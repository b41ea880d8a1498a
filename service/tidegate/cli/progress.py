"""The progress bar of `tidegate stream`: on stderr, where someone watches and the input's length is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from tidegate.cli.text_files import size_of


class FeedingProgress:
    """How much of the input was read, and whether the server is there."""

    def __init__(self, file: IO[str], console: Console) -> None:
        """Prepare.

        Args:
            file: The input.
            console: Where to draw.
        """
        self._file = file
        self._is_attached: Callable[[], bool] = lambda: True
        columns = (TextColumn("{task.completed} of {task.total} bytes"), BarColumn(), TaskProgressColumn())
        state = _StateColumn(lambda: "" if self._is_attached() else "reconnecting")
        self._bar = Progress(*columns, TimeRemainingColumn(), state, console=console, transient=True)
        self._num_bytes = size_of(file) if console.is_terminal else None

    def watch(self, is_attached: Callable[[], bool]) -> None:
        """Say from now on when the session has lost the server; asked from the drawing thread."""
        self._is_attached = is_attached

    @contextmanager
    def lines(self) -> Iterator[Iterator[str]]:
        """The lines of the input, counted as they are read."""
        if self._num_bytes is None:
            yield iter(self._file)
            return
        with self._bar:
            task = self._bar.add_task("", total=self._num_bytes)
            yield _counted(self._file, lambda num_bytes: self._bar.advance(task, num_bytes))


class _StateColumn(ProgressColumn):
    def __init__(self, state: Callable[[], str]) -> None:
        super().__init__()
        self._state = state

    def render(self, task: Task) -> Text:  # noqa: ARG002 - the signature is rich's
        return Text(self._state(), style="yellow")


def _counted(file: IO[str], advance: Callable[[int], None]) -> Iterator[str]:
    for line in file:
        yield line
        advance(len(line.encode()))
