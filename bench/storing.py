"""Sessions and their store in a process of their own: everything that a server stores with, but no gRPC.

The sessions are opened under random ids, and stored once, before anything is measured. A step is counted
without being run: what a checkpoint does depends on how many sessions have changed, not on their states.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from bench.errors import BenchError
from bench.peers import OPEN_PIECE
from bench.processes import Worker, answer
from tidegate.app import Server
from tidegate.config import load_settings
from tidegate.runner.ort import treat_denormals_as_zero
from tidegate.session.manager import SessionManager
from tidegate.session.open_request import OpenMode, OpenRequest
from tidegate.session.table import SessionTable
from tidegate.tensor import SlotArray

ID_BYTES = 16


@dataclass(frozen=True)
class StoreSlice:
    """What was stored in one go.

    Attributes:
        sessions: Sessions whose states were stored.
        cpu_s: CPU-seconds of the process.
        wall_s: Seconds.
    """

    sessions: int
    cpu_s: float
    wall_s: float

    @property
    def sessions_per_s(self) -> float:
        """Sessions stored in a second."""
        return self.sessions / self.wall_s


class StoreWorker(Worker):
    """Sessions and their store; the store is closed when the process ends."""

    def __init__(self, core: int, package: Path, store: Path, num_sessions: int, *, log: Path) -> None:
        """Start, open the sessions and store each once, which takes its time: the first answer comes after it."""
        arguments = [str(package.parents[1]), str(store), str(num_sessions)]
        super().__init__(core, "bench.storing", arguments, log=log)

    def prepared(self) -> dict[str, float]:
        """Wait until all sessions are stored; says how many seconds the parts of that took."""
        return self.ask(part=-1, parts=0)

    def slice(self, part: int, parts: int) -> StoreSlice:
        """Let the sessions of one part of the slots be a step further, and store them."""
        return StoreSlice(**self.ask(part=part, parts=parts))

    def close(self) -> None:
        """Have it close the store and end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        if self.process.wait():
            self.check_running()


class Sessions:
    """The sessions of one model, all in memory and in the store."""

    def __init__(self, models: Path, store: Path, num_sessions: int) -> None:
        settings = {"models": models, "store": f"sqlite:///{store.resolve()}", "max_sessions": num_sessions}
        self._server = Server(load_settings(settings))
        self._manager: SessionManager = self._server._sessions

    async def prepare(self, num_sessions: int) -> dict[str, float]:
        """Open the sessions and store a state of each."""
        await self._server._pool.load_newest_of_each()
        start_s = time.perf_counter()
        await self._open(num_sessions)
        opened_s = time.perf_counter()
        await self.store(0, 1)
        return {"open_s": opened_s - start_s, "first_store_s": time.perf_counter() - opened_s}

    async def store(self, part: int, parts: int) -> StoreSlice:
        """Count a step for one part of the sessions, and store their states."""
        table = self._table()
        slots: SlotArray = np.array_split(np.arange(1, table.pool.capacity + 1, dtype=np.int32), parts)[part]
        table.next_step[slots] += 1
        table.accepted[slots] += 1
        cpu_s, start_s = time.process_time(), time.perf_counter()
        await self._manager.checkpointer.save(table, slots)
        found = StoreSlice(len(slots), time.process_time() - cpu_s, time.perf_counter() - start_s)
        if len(table.dirty(int(slots[0]), int(slots[-1]) + 1)):
            raise BenchError("some sessions were not stored")
        return found

    def close(self) -> None:
        """Close the store."""
        self._manager.keeper.close()

    async def _open(self, num_sessions: int) -> None:
        stream = self._manager.add_stream(lambda _: None, lambda _: None, lambda *_: None)
        (model,) = self._server._pool.models()
        ids = np.random.default_rng(0).bytes(num_sessions * ID_BYTES).hex()
        names = [ids[i : i + 2 * ID_BYTES] for i in range(0, len(ids), 2 * ID_BYTES)]
        for start in range(0, num_sessions, OPEN_PIECE):
            piece = names[start : start + OPEN_PIECE]
            none: list[int | None] = [None] * len(piece)
            opened = await self._manager.open(
                stream,
                OpenRequest(
                    model.manifest.name, "", "", OpenMode.CREATE, piece, none, none, [0] * len(piece), b"", 0
                ),
            )
            if opened.errors:
                raise BenchError(f"a session was refused: {next(iter(opened.errors.values()))}")

    def _table(self) -> SessionTable:
        (table,) = self._manager.registry.tables()
        return table


def main() -> None:
    """Prepare, then answer `{"part", "parts"}` until standard input ends; a part of -1 asks for the preparation."""
    models, store, num_sessions = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    treat_denormals_as_zero()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def start() -> tuple[Sessions, dict[str, float]]:
            sessions = Sessions(models, store, num_sessions)
            return sessions, await sessions.prepare(num_sessions)

        sessions, prepared = runner.run(start())
        for line in sys.stdin:
            request: dict[str, Any] = json.loads(line)
            if request["part"] < 0:
                answer(prepared)
            else:
                answer(vars(runner.run(sessions.store(request["part"], request["parts"]))))
        sessions.close()


if __name__ == "__main__":
    main()
