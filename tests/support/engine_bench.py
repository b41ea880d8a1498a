"""An engine with a real runner, and what a session manager keeps for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tidegate.engine.engine import Engine
from tidegate.engine.frame import EngineFrame, Part, Source
from tidegate.engine.meter import EngineMeter
from tidegate.errors import TidegateError
from tidegate.model.package import read_package
from tidegate.protocol.outputs import OutputSelection
from tidegate.runner.runner import Runner, RunnerOptions
from tidegate.telemetry.metrics import Metrics
from tidegate.tensor import Array


class Answers:
    """What comes back for one frame."""

    def __init__(self, frame_rows: int) -> None:
        self.parts: list[Part] = []
        self._positions = np.arange(frame_rows)

    def __call__(self, part: Part) -> None:
        assert not self.complete, "a part came after the last one"
        self.parts.append(part)

    @property
    def complete(self) -> bool:
        return bool(self.parts) and self.parts[-1].complete

    @property
    def errors(self) -> dict[int, TidegateError]:
        """By row."""
        return {
            row: error
            for part in self.parts
            if part.errors
            for row, error in zip(self._positions[part.rows].tolist(), part.errors, strict=True)
        }

    def row(self, row: int) -> Array:
        """The answers of one row, in order of its steps."""
        pieces = [
            part.outputs[0][self._positions[part.rows].tolist().index(row)]
            for part in self.parts
            if part.outputs and row in self._positions[part.rows]
        ]
        return np.concatenate(pieces)


class EngineBench:
    """An engine and what a session manager keeps for it: slots and accepted steps."""

    def __init__(self, package: Path, *, max_batch_size: int, max_slice_steps: int, delay_us: int) -> None:
        self.metrics = Metrics()
        options = RunnerOptions(max_batch_size=max_batch_size, max_sessions=30)
        self.runner = Runner(read_package(package), options)
        self.engine = Engine(
            self.runner,
            max_batch_size=max_batch_size,
            max_slice_steps=max_slice_steps,
            max_queue_delay_us=delay_us,
            meter=EngineMeter(self.metrics, "m", "1"),
        )
        self.accepted = np.zeros(31, np.int64)
        self.runner.arena.reset(np.arange(1, 31, dtype=np.int32))

    def submit(
        self,
        slots: list[int],
        x: Array,
        *,
        source: Source | None = None,
        deadline_s: float | None = None,
        outputs: OutputSelection = OutputSelection.ALL,
        on_part: Callable[[Part], None] | None = None,
    ) -> Answers:
        """Queue the next steps of sessions."""
        array, answers = np.array(slots, np.int32), Answers(len(slots))
        frame = EngineFrame(
            array,
            self.accepted[array],
            [x],
            outputs=outputs,
            source=source or Source(),
            arrived_s=0.0,
            deadline_s=deadline_s,
            on_part=on_part or answers,
        )
        self.accepted[array] += x.shape[1]
        self.engine.submit(frame)
        return answers

    async def until_complete(self, *answers: Answers) -> None:
        """Wait for the last part of each."""
        while not all(a.complete for a in answers):
            await self.engine.progress()
        self.engine.check_integrity()

    def counted(self, name: str) -> float:
        value = self.metrics.registry.get_sample_value(name, {"model": "m", "version": "1"})
        assert value is not None
        return value

    async def batch_starts(self, slot: int) -> None:
        """Let the engine begin a batch that holds a slot; it must run in the engine's thread."""
        await asyncio.sleep(0)
        assert self.engine.holds(np.array([slot], np.int32))
