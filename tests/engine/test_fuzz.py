"""Random frames, drops, failures and time limits, held against one number per session.

Whatever happens, the steps of a session that were answered are 0, 1, 2 … without a gap or a repetition, each
with the sum of the inputs so far; every other row that was accepted has one error; and nothing is left.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

import numpy as np
import pytest

from support.engine_bench import EngineBench
from support.onnx_models import table_package
from tidegate.engine import engine as engine_module
from tidegate.engine.frame import EngineFrame, Part, Source
from tidegate.errors import Displaced
from tidegate.protocol.outputs import OutputSelection
from tidegate.tensor import IntArray, SlotArray

Maker = Callable[..., EngineBench]

SEED_VARIABLE = "FUZZ_SEED"
ROUNDS = 60
NUM_SLOTS = 8
TABLE_SIZE = 4
BAD_INDEX = 9
LONG_AGO_S = 1.0
FAR_AWAY_S = 1e9


@dataclass
class Sent:
    """A frame and what has come back for each of its rows."""

    frame: EngineFrame | None
    first_steps: IntArray
    indices: IntArray
    answers: list[list[float]]
    refused: set[int] = field(default_factory=set)
    complete: bool = False


class Fuzz:
    """Does random things to an engine; keeps `accepted` as a session table does."""

    def __init__(self, bench: EngineBench, rng: np.random.Generator) -> None:
        self._bench = bench
        self._rng = rng
        self._sources = [Source() for _ in range(3)]
        self._sent: list[Sent] = []

    async def act(self) -> None:
        """One random act."""
        acts = [self._send, self._drop, self._regulate, self._let_time_pass, self._let_run]
        await acts[int(self._rng.choice(len(acts), p=[0.5, 0.1, 0.1, 0.1, 0.2]))]()

    async def finish(self) -> None:
        """Let everything run that was held back, and wait for the last answer."""
        for source in self._sources:
            source.congested = source.paused = False
        self._bench.engine.wake()
        async with asyncio.timeout(10):
            while not all(sent.complete for sent in self._sent):
                await self._bench.engine.progress()

    def check(self) -> None:
        """Hold what came back against the model that is one sum per session."""
        engine = self._bench.engine
        engine.check_integrity()
        assert not engine.is_busy
        assert engine._scheduler.frames() == []
        table = self._table()
        for slot in range(1, NUM_SLOTS + 1):
            answered = sorted(self._answered(slot))
            assert [step for step, _, _ in answered] == list(range(len(answered)))
            assert len(answered) == engine.next_step[slot] == self._bench.accepted[slot]
            sums = np.cumsum([table[index] for _, index, _ in answered], dtype=np.float32)
            assert [answer for _, _, answer in answered] == sums.tolist()

    def _answered(self, slot: int) -> Iterator[tuple[int, int, float]]:
        """Step, input and answer of every step of a session that was answered."""
        for sent in self._sent:
            assert sent.frame is not None
            for row in np.flatnonzero(sent.frame.slots == slot).tolist():
                answers = sent.answers[row]
                assert (len(answers) < sent.frame.num_steps) == (row in sent.refused)
                first = int(sent.first_steps[row])
                for step, answer in enumerate(answers):
                    yield first + step, int(sent.indices[row, step]), answer

    def _table(self) -> list[float]:
        """What the model adds for each index, told by sessions that nobody else uses."""
        return [
            float(self._bench.runner.step(np.array([20 + i], np.int32), [np.array([[[i]]])])[0][0, 0, 0])
            for i in range(TABLE_SIZE)
        ]

    def _some_slots(self, most: int) -> SlotArray:
        count = int(self._rng.integers(1, most + 1))
        return (self._rng.permutation(NUM_SLOTS)[:count] + 1).astype(np.int32)

    async def _send(self) -> None:
        slots = self._some_slots(NUM_SLOTS)
        num_steps = int(self._rng.choice([1, 1, 1, 2, 5, 9]))
        indices = self._rng.integers(0, TABLE_SIZE, (len(slots), num_steps))
        indices[self._rng.random(indices.shape) < 0.01] = BAD_INDEX
        first_steps = self._bench.accepted[slots]
        sent = Sent(None, first_steps, indices, [[] for _ in slots])
        sent.frame = EngineFrame(
            slots,
            first_steps,
            [indices[:, :, None]],
            outputs=OutputSelection.ALL,
            source=self._sources[int(self._rng.integers(len(self._sources)))],
            arrived_s=time.monotonic(),
            deadline_s=FAR_AWAY_S if self._rng.random() < 0.3 else None,
            on_part=lambda part: self._take(sent, part),
        )
        self._sent.append(sent)
        self._bench.accepted[slots] += num_steps
        self._bench.engine.submit(sent.frame)

    def _take(self, sent: Sent, part: Part) -> None:
        assert not sent.complete, "a part came after the last one"
        assert sent.frame is not None
        rows = sent.frame.positions(part.rows)
        assert len(rows) == part.num_rows
        assert sent.refused.isdisjoint(rows.tolist())
        if part.errors:
            assert len(part.errors) == len(rows)
            sent.refused.update(rows.tolist())
            self._take_back(sent.frame.slots[rows], sent.first_steps[rows])
        else:
            for row, values in zip(rows.tolist(), part.outputs[0][:, :, 0].tolist(), strict=True):
                assert len(sent.answers[row]) == part.step_offset
                sent.answers[row] += values
        sent.complete = part.complete

    def _take_back(self, slots: SlotArray, first_steps: IntArray) -> None:
        accepted, engine = self._bench.accepted, self._bench.engine
        accepted[slots] = np.minimum(accepted[slots], np.maximum(first_steps, engine.next_step[slots]))

    async def _drop(self) -> None:
        """As when a stream is lost: nothing new comes for its sessions before they are settled."""
        slots, engine = self._some_slots(3), self._bench.engine
        waiting = slots[self._bench.accepted[slots] > engine.next_step[slots]]
        if len(waiting):
            engine.drop(waiting, lambda expected: Displaced("dropped", next_step=expected))
        await engine.settle(slots)

    async def _regulate(self) -> None:
        source = self._sources[int(self._rng.integers(len(self._sources)))]
        source.congested, source.paused = (self._rng.random(2) < 0.4).tolist()
        self._bench.engine.wake()

    async def _let_time_pass(self) -> None:
        """Some time limits are over."""
        for frame in self._bench.engine._scheduler.frames():
            if frame.deadline_s is not None and self._rng.random() < 0.5:
                frame.deadline_s = LONG_AGO_S

    async def _let_run(self) -> None:
        for _ in range(int(self._rng.integers(1, 8))):
            await asyncio.sleep(0)


@pytest.fixture
def seed() -> int:
    """Another one in every run; `FUZZ_SEED` repeats one."""
    number = int(os.environ.get(SEED_VARIABLE) or int.from_bytes(os.urandom(4)))
    print(f"{SEED_VARIABLE}={number} repeats this")  # noqa: T201  # pytest shows it when a test fails
    return number


@pytest.mark.parametrize("inline_limit_s", [inf, -1.0], ids=["in the event loop", "in a thread"])
async def test_answers_are_the_sums_of_each_session_whatever_happens(
    tmp_path: Path, make_bench: Maker, monkeypatch: pytest.MonkeyPatch, seed: int, inline_limit_s: float
) -> None:
    monkeypatch.setattr(engine_module, "INLINE_LIMIT_S", inline_limit_s)
    package, rng = table_package(tmp_path, size=TABLE_SIZE), np.random.default_rng(seed)

    for _ in range(ROUNDS):
        limits = {"max_batch_size": int(rng.integers(1, 5)), "max_slice_steps": int(rng.integers(1, 6))}
        fuzz = Fuzz(make_bench(package, **limits), rng)
        for _ in range(int(rng.integers(5, 60))):
            await fuzz.act()
        await fuzz.finish()

        fuzz.check()
