"""Sequences as their clients know them, through servers that die: what was sent, what was answered, what comes next."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from grpc import aio

from support.open_inference import Answer, InferStream, Refused, infer, request
from support.raw_stream import Floats
from tidegate.oip import open_inference_pb2 as pb

MAX_STEPS = 3
"""Steps of one request."""

IN_FLIGHT = 3
"""Requests that a client which counts its steps sends before the first is answered."""


@dataclass(eq=False)
class Course:
    """One sequence.

    Attributes:
        id: Of the sequence.
        x: Its inputs, [steps, features].
        firsts: Where each of its requests begins, and at last where the last one ends.
        counts: Its client says in each request which step is next, and gives it an id that it never uses again; else
            a request that is sent again, because nobody knows what became of it, has the id that it had.
        answers: What was answered, by step; what was answered twice was the same.
    """

    id: int | str
    x: Floats
    firsts: list[int]
    counts: bool
    answers: dict[int, Floats] = field(default_factory=dict)
    _next: int = 0
    _num_sent: int = 0
    _says_step: bool = False
    _end_was_sent: bool = False

    @property
    def num_requests(self) -> int:
        """Requests in all; the last one ends the sequence."""
        return len(self.firsts) - 1

    @property
    def is_done(self) -> bool:
        """Every request was applied."""
        return self._next == self.num_requests

    @property
    def next_step(self) -> int:
        """Steps that were applied, as far as its client knows."""
        return self.firsts[self._next]

    async def go_on(self, channel: aio.Channel, *, leave: int = 0) -> None:
        """Send requests until all are applied, or the server is lost.

        Args:
            channel: To the server.
            leave: So many requests at the end are not sent yet.
        """
        while self._next < self.num_requests - leave:
            try:
                async with InferStream(channel) as stream:
                    await self._run(stream, self.num_requests - leave)
            except (ConnectionError, aio.AioRpcError):
                return
            except Refused as refused:
                if refused.code == "UNAVAILABLE":
                    return
                self._learn_from(refused)

    def stands_at(self, step: int) -> None:
        """The server has told where the sequence stands: its client sends what comes next, and says which step it is."""
        assert step in self.firsts, f"{self.id}: step {step} is in the middle of a request"
        self._next, self._says_step = self.firsts.index(step), True

    async def ask_blindly(self, channel: aio.Channel) -> Refused:
        """What the next step is refused with, if nothing says which one it is."""
        first = self.next_step
        try:
            await infer(channel, request(self.x[first : first + 1], sequence=self.id))
        except Refused as refused:
            return refused
        raise AssertionError(f"{self.id}: a step was taken that should not have been")

    async def check(self, channel: aio.Channel) -> None:
        """Hold all answers against those of one window of all steps, bit for bit."""
        whole = await infer(channel, request(self.x))
        wrong = [step for step, y in self.answers.items() if y.tobytes() != whole.y[step].tobytes()]
        assert wrong == [], f"{self.id}: these steps differ"

    async def _run(self, stream: InferStream, last: int) -> None:
        in_flight: deque[tuple[int, asyncio.Future[Answer]]] = deque()
        sent = self._next
        try:
            while self._next < last:
                while sent < last and len(in_flight) < (IN_FLIGHT if self.counts else 1):
                    self._end_was_sent |= sent == self.num_requests - 1
                    in_flight.append((sent, await stream.send(self._request(sent))))
                    sent += 1
                number, answer = in_flight.popleft()
                self._enter(number, await answer)
        finally:
            await asyncio.gather(*(answer for _, answer in in_flight), return_exceptions=True)
            for number, answer in in_flight:
                if answer.exception() is None:
                    self._enter(number, answer.result())

    def _request(self, number: int) -> pb.ModelInferRequest:
        first, end = self.firsts[number : number + 2]
        says_step, self._says_step = self.counts or self._says_step, False
        self._num_sent += 1
        return request(
            self.x[first:end],
            sequence=self.id,
            request_id=f"{self.id} {self._num_sent if self.counts else first}",
            start=number == 0,
            end=number == self.num_requests - 1,
            step=first if says_step else None,
        )

    def _enter(self, number: int, answer: Answer) -> None:
        first, end = self.firsts[number : number + 2]
        assert (answer.first_step, len(answer.y)) == (first, end - first), self.id
        for step, y in enumerate(answer.y, start=first):
            known = self.answers.setdefault(step, y)
            assert known.tobytes() == y.tobytes(), f"{self.id}: step {step} was answered twice, differently"
        self._next = number + 1

    def _learn_from(self, refused: Refused) -> None:
        """A request was refused as applied before: whoever counts learns so where the sequence stands."""
        if refused.code == "NOT_FOUND" and self._end_was_sent:
            self._next = self.num_requests
        elif refused.code == "FAILED_PRECONDITION" and self.counts:
            self.stands_at(refused.facts["expected_step"])
        else:
            raise refused


def draw_courses(rng: np.random.Generator, count: int, *, num_steps: int, features: int = 3) -> list[Course]:
    """Sequences of both kinds of ids and of clients, with requests of random sizes."""
    courses = []
    for number in range(1, count + 1):
        x = rng.normal(0, 1, (num_steps, features)).astype(np.float32)
        firsts = np.cumsum(rng.integers(1, MAX_STEPS + 1, num_steps))
        firsts = [0, *firsts[firsts < num_steps].tolist(), num_steps]
        # 5 and "5" are two.
        courses.append(Course(number if number % 2 else str(number - 1), x, firsts, counts=number % 4 > 1))
    return courses
