"""Random work on three ids against a simple model of the rules, over crashes, rests and ends by id.

The model of a sequence is the list of its inputs; its answers are the sums. Every request is answered before the
next is sent: what happens at the same time has tests of its own.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from support.sequence_clients import SequenceClient
from support.session_bench import LIMITS, Lives, SessionBench
from support.waiting import until
from tidegate.errors import InvalidRequest, SessionNotFound, TidegateError, WrongStep
from tidegate.session.limits import Durability

Id = int | str
Values = tuple[int, ...]


@dataclass(frozen=True)
class Ask:
    """A request.

    Attributes:
        off_by: How far the step that it gives is from the right one; None if it gives none.
    """

    sequence_id: Id
    values: Values
    starts: bool
    ends: bool
    request_id: str
    off_by: int | None


@dataclass(frozen=True)
class Rest:
    """The sequence leaves memory for the store."""

    sequence_id: Id


@dataclass(frozen=True)
class EndById:
    """An operator ends the sequence."""

    sequence_id: Id


@dataclass(frozen=True)
class Crash:
    """The server dies, and another begins."""


Event = Ask | Rest | EndById | Crash
ids = st.sampled_from([5, "5", 6])
asks = st.builds(
    Ask,
    ids,
    st.sampled_from([(1,), (2,), (1, 2, 3)]),
    starts=st.booleans(),
    ends=st.sampled_from([False, False, True]),
    request_id=st.sampled_from(["", "", "a", "b"]),
    off_by=st.sampled_from([None, None, None, 0, 1]),
)
events = st.one_of(asks, asks, asks, asks, st.builds(Rest, ids), st.builds(EndById, ids))


@dataclass
class Model:
    """One id.

    Attributes:
        inputs: Of the sequence that is going on; None if there is none.
        last: Request id, values and answers of the last request that was applied, if it had an id.
    """

    inputs: Values | None = None
    last: tuple[str, Values, list[int]] | None = None

    def expect(self, ask: Ask) -> list[int] | type[TidegateError]:
        """What a request is to be answered with."""
        if self.last is not None and ask.request_id == self.last[0]:
            if ask.values == self.last[1]:
                self.inputs = None if ask.ends else self.inputs
                return self.last[2]
            if self.inputs is not None:
                return InvalidRequest
        if self.inputs is None and not ask.starts:
            return SessionNotFound
        if ask.off_by:
            return WrongStep
        before = () if ask.starts or self.inputs is None else self.inputs
        answers = list(accumulate(before + ask.values))[len(before) :]
        self.last = (ask.request_id, ask.values, answers) if ask.request_id else None
        self.inputs = None if ask.ends else before + ask.values
        return answers

    def next_step(self, ask: Ask) -> int:
        return 0 if ask.starts or self.inputs is None else len(self.inputs)

    def crash(self) -> None:
        """Of what has ended nothing is remembered."""
        self.last = None if self.inputs is None else self.last


class World:
    """The server that runs, and the model of each id."""

    def __init__(self, lives: Lives, durability: Durability) -> None:
        self._lives = lives
        self._limits = replace(LIMITS, sequence_durability=durability)
        self._models: dict[Id, Model] = {sequence_id: Model() for sequence_id in (5, "5", 6)}
        self._begin()

    def _begin(self) -> None:
        self._bench: SessionBench = self._lives.begin(limits=self._limits)
        self._client = SequenceClient(self._bench.manager)

    async def happen(self, event: Event) -> None:
        if isinstance(event, Ask):
            await self._ask(event)
        elif isinstance(event, Crash):
            await until(self._bench.manager.is_idle)
            self._begin()
            for model in self._models.values():
                model.crash()
        else:
            await self._disturb(event)
        self._bench.manager.check_integrity()

    async def _ask(self, ask: Ask) -> None:
        model = self._models[ask.sequence_id]
        step = None if ask.off_by is None else model.next_step(ask) + ask.off_by
        expected = model.expect(ask)
        reply = self._client.step(
            ask.sequence_id,
            *ask.values,
            start=ask.starts,
            end=ask.ends,
            request_id=ask.request_id,
            step=step,
        )
        try:
            got: list[float] | type[TidegateError] = await reply
        except TidegateError as error:
            got = type(error)
        assert got == expected

    async def _disturb(self, event: Rest | EndById) -> None:
        kind = "str" if isinstance(event.sequence_id, str) else "int"
        session_id = f"sequence/counter/{kind}/{event.sequence_id}"
        model = self._models[event.sequence_id]
        if model.inputs is None:
            return
        if isinstance(event, EndById):
            assert await self._bench.manager.end_session(session_id) == len(model.inputs)
            model.inputs = model.last = None
        elif self._bench.manager.registry.find(session_id) is not None:
            await self._bench.passivate(session_id)


@settings(max_examples=60, deadline=None)
@given(work=st.lists(st.one_of(events, events, events, st.just(Crash())), max_size=25))
def test_answers_that_wait_for_the_store_keep_the_rules_over_crashes(models: Path, work: list[Event]) -> None:
    asyncio.run(_live_through(models, "before-answer", work))


@settings(max_examples=60, deadline=None)
@given(work=st.lists(events, max_size=25))
def test_answers_that_leave_at_once_keep_the_rules(models: Path, work: list[Event]) -> None:
    asyncio.run(_live_through(models, "background", work))


async def _live_through(models: Path, durability: Durability, work: list[Event]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lives = Lives(models, Path(folder) / "sessions.db")
        world = World(lives, durability)
        for event in work:
            await world.happen(event)
        lives.end()
