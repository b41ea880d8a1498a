"""Killing a command in the middle of its work, told by how much of its output is there."""

from __future__ import annotations

import asyncio
from pathlib import Path

from support.machine_feeds import START_S
from support.waiting import until


def num_lines(path: Path) -> int:
    """Whole lines of a file that may not be there yet."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


async def is_killed_behind(num_rows: int, command: asyncio.subprocess.Process, output: Path) -> bool:
    """Kill a command once its output has more than so many lines.

    Returns:
        Whether it was killed: a busy machine may let it run far beyond the moment, to its end even.
    """
    await until(lambda: num_lines(output) > num_rows or command.returncode is not None, within_s=START_S)
    if command.returncode is None:
        command.kill()
    code = await command.wait()
    assert code <= 0, output.with_suffix(".log").read_text()
    return code < 0
