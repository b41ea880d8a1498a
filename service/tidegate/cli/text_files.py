"""The files that a command is fed with and writes, which may be pipes: always UTF-8, whatever the locale says."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import UnsupportedOperation
from pathlib import Path
from typing import IO, Literal

import click

from tidegate.errors import ConfigError

PIPE = "-"
"""What stdin and stdout are called."""


@contextmanager
def opened_input(path: str) -> Iterator[IO[str]]:
    """The file to read, or stdin, with its ends of lines as they are.

    Raises:
        ConfigError: It cannot be opened, or turns out to be no UTF-8 text while it is read.
    """
    try:
        if path == PIPE:
            with click.open_file(PIPE, encoding="utf-8") as pipe:
                yield pipe
        else:
            with opened(Path(path), "r") as file:
                yield file
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text: {error}") from error


def stdout() -> IO[str]:
    """Where answers go that no file takes."""
    return click.open_file(PIPE, "w", encoding="utf-8")


def opened(path: Path, mode: Literal["r", "w", "r+"]) -> IO[str]:
    """A file of lines.

    Raises:
        ConfigError: It cannot be opened.
    """
    try:
        return path.open(mode, encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def size_of(file: IO[str]) -> int | None:
    """Bytes of a plain file; None for a pipe and the like, whose end nobody knows."""
    status = _status(file)
    return None if status is None else status.st_size


def is_at(file: IO[str], path: str) -> bool:
    """Whether a plain file is the one at a path, by whatever name it was opened."""
    status = _status(file)
    try:
        return status is not None and path != PIPE and os.path.samestat(status, Path(path).stat())
    except OSError:
        return False


def _status(file: IO[str]) -> os.stat_result | None:
    try:
        status = os.fstat(file.fileno())
    except (UnsupportedOperation, OSError):
        return None
    return status if stat.S_ISREG(status.st_mode) else None
