"""The progress bar of `tidegate stream`."""

from __future__ import annotations

import io
import os
from pathlib import Path

from rich.console import Console

from support.waiting import until
from tidegate.cli.progress import FeedingProgress


def console(drawn: io.StringIO, *, is_terminal: bool) -> Console:
    return Console(file=drawn, force_terminal=is_terminal, width=120)


async def test_the_bar_says_while_the_server_is_away(tmp_path: Path) -> None:
    source, drawn = tmp_path / "in.csv", io.StringIO()
    source.write_text("x\n1\n2\n")

    with source.open() as file:
        progress = FeedingProgress(file, console(drawn, is_terminal=True))
        with progress.lines() as lines:
            assert next(lines) == "x\n"
            await until(lambda: "of 6 bytes" in drawn.getvalue())
            assert "reconnecting" not in drawn.getvalue()
            progress.watch(lambda: False)
            await until(lambda: "reconnecting" in drawn.getvalue())


def test_nothing_is_drawn_where_nobody_watches(tmp_path: Path) -> None:
    source, drawn = tmp_path / "in.csv", io.StringIO()
    source.write_text("x\n1\n2\n")

    with source.open() as file, FeedingProgress(file, console(drawn, is_terminal=False)).lines() as lines:
        assert list(lines) == ["x\n", "1\n", "2\n"]

    assert drawn.getvalue() == ""


def test_a_pipe_has_no_length_to_count_to() -> None:
    drawn = io.StringIO()
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        pipe.write("x\n1\n")

    with os.fdopen(reading) as file, FeedingProgress(file, console(drawn, is_terminal=True)).lines() as lines:
        assert list(lines) == ["x\n", "1\n"]

    assert drawn.getvalue() == ""
