"""`tidegate stream` on a series with gaps, killed again and again, and the server with it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from support.ids import new_id
from support.machine_feeds import kill_behind, num_lines, stream_command
from support.restarting import RestartingServer
from support.timed_models import MODEL, broken_series, timed_package

NUM_ROWS = 900
NUM_KILLS = 4


@pytest.mark.slow
async def test_kills_of_both_sides_change_no_answer_of_a_series_with_gaps(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    timed_package(tmp_path / "models")
    source, output, calm = (tmp_path / name for name in ("series.csv", "answers.csv", "calm.csv"))
    source.write_text("".join(broken_series(NUM_ROWS, rng)))
    session_id = new_id()

    async with RestartingServer(tmp_path / "models", tmp_path) as server:

        async def start(path: Path, session: str, chunk: str) -> asyncio.subprocess.Process:
            flags = ("--on-bad-row", "skip", "--chunk", chunk)
            return await stream_command(server.address, str(source), path, session, *flags, model=MODEL)

        for number in range(NUM_KILLS):
            moment = num_lines(output) + int(rng.integers(0, NUM_ROWS // NUM_KILLS))
            await kill_behind(moment, await start(output, session_id, ("1", "3")[number % 2]), output)
            if number % 2:
                await server.crash()
        ends = [await start(output, session_id, "1000"), await start(calm, new_id(), "1000")]
        codes = [await command.wait() for command in ends]

    assert codes == [0, 0]
    assert num_lines(calm) == NUM_ROWS + 1
    assert output.read_bytes() == calm.read_bytes()
