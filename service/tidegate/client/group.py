"""Sessions that were opened together: their call under way, and what is held to survive a break.

A `Session` is a group of one, a `Fleet` a group of many. One call of a group is under way at a time;
the next waits for it. A call whose caller left (timeout, cancellation) goes on, because what was handed
over keeps its step numbers.

A call does not notice a lost connection: it is on its way until every step is answered or refused. The
connection attaches the group again, and its lane sends what is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np

from tidegate.client.acks import QUIET_S, AckBook, Acks
from tidegate.client.attaching import pinned
from tidegate.client.budget import InputBudget
from tidegate.client.errors import FleetError
from tidegate.client.lane import Lane
from tidegate.client.opening import OpenOptions
from tidegate.client.pending import PendingCall
from tidegate.client.recovery import leave_alone_s
from tidegate.client.roster import Roster
from tidegate.client.signature import ModelInfo
from tidegate.client.stream import SessionStream
from tidegate.errors import InvalidRequest, TidegateError
from tidegate.protocol.outputs import OutputSelection
from tidegate.protocol.replay import HeldInputs
from tidegate.protocol.tracking import StepCall
from tidegate.tensor import Array, IntArray
from tidegate.v1.model_pb2 import ModelVersion

LEFT = "session: expected an open one, got one that was left or ended"


class SessionGroup:
    """Sessions of one model version.

    Attributes:
        roster: The sessions.
        options: How they are opened for the first time.
        address: The server, for texts.
        model: The version that they are pinned to; None before the first open was answered.
        versions: As texts name them; more than one while it is not refused for that.
        held: The inputs that may have to be sent again.
        budget: How many bytes they may have, with those of the client's other sessions.
        pending: The call under way.
        untold: The call that was handed over last, until somebody is told its outcome.
        acks: What the application has kept.
        is_left: The application has left them, or they could not be opened.
        is_caught_up: Set while they are attached and the server has every step that was answered.
        stream: What they are attached to; None after a break.
        ready: Done when the first open was answered; holds its error.
        trouble: Why the server has no room for them yet, while they are opened.
        news: Set whenever a durable step has moved, a session was lost, `is_caught_up` was set, or they were left.
    """

    def __init__(
        self,
        ids: Sequence[str],
        options: OpenOptions,
        budget: InputBudget,
        address: str,
        *,
        acks: Acks,
        is_fleet: bool,
    ) -> None:
        self.roster = Roster(ids)
        self.options = options
        self.address = address
        self.model: ModelVersion | None = None
        self.versions: set[str] = set()
        self.held = HeldInputs()
        self.budget = budget
        self.pending: PendingCall | None = None
        self.untold: PendingCall | None = None
        self.acks = AckBook(len(ids))
        self._acks_by_itself = acks == "auto"
        self.is_left = False
        self.is_caught_up = asyncio.Event()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.trouble: TidegateError | None = None
        self.news = asyncio.Event()
        self.stream: SessionStream | None = None
        self._is_fleet = is_fleet
        self._lane: Lane | None = None
        self._loop = asyncio.get_running_loop()
        self._ack_timer: asyncio.TimerHandle | None = None

    @property
    def answered_steps(self) -> IntArray:
        """The first step of each session without an answer, shape (n,), int64."""
        if self.pending is None:
            return self.roster.next_steps.copy()
        return self.pending.account.first_steps + self.pending.account.applied

    def keep_returned(self) -> None:
        """The application asks for more, or says that it is done: it has kept what it was given."""
        if self._acks_by_itself:
            self._keep(self.answered_steps)

    def submit(self, model: ModelInfo, inputs: Sequence[Array], selection: OutputSelection) -> PendingCall:
        """Hand over the next steps; no call may be under way, and there must be room.

        Args:
            model: What the sessions are pinned to.
            inputs: Per model input, (n, T, step_shape...).
            selection: Which answers come back.
        """
        self.keep_returned()
        first_steps = self.roster.next_steps.copy()
        before = self.held.num_bytes
        copies = self.held.append(first_steps, inputs, self.roster.live)
        self.budget.change(self.held.num_bytes - before)
        forms = [output.form for output in model.outputs]
        pending = PendingCall(StepCall(first_steps, copies, forms, selection, self.roster.lost))
        self.roster.next_steps = first_steps + pending.account.num_steps
        self.pending = self.untold = pending
        if self._lane is not None and self.stream is not None:
            self._lane.put(pending)
            self.stream.put_lane(self._lane)
        elif pending.account.is_over:
            self.call_over(pending)
        return pending

    def acknowledge(self, steps: IntArray) -> None:
        """The application has kept the answers before these steps, shape (n,).

        Raises:
            InvalidRequest: A step has not been answered yet.
        """
        ahead = np.flatnonzero(self.roster.live & (steps > self.answered_steps))
        if ahead.size:
            row = int(ahead[0])
            raise InvalidRequest(
                f"ack: step: expected at most {self.answered_steps[row]}, got {steps[row]} "
                f"(session {self.roster.ids[row]!r})"
            )
        self._keep(steps)

    def tell_acks(self) -> None:
        """Tell the server now what the application has kept."""
        self._ack_timer = None
        if self.stream is None or not self.is_caught_up.is_set() or not self.acks.has_news:
            return  # After a break the next connection is told.
        rows = self.acks.all_news()
        steps = self.acks.tell(rows, self._loop.time())
        self.stream.acknowledge(self.roster.handles[rows], steps)

    def raise_errors(
        self, errors: Mapping[int, TidegateError], answers: Array | Mapping[str, Array] | None = None
    ) -> None:
        """Raise what went wrong with rows, if anything did: as it is for a `Session`, else `FleetError`."""
        if errors and not self._is_fleet:
            raise errors[0]
        if errors:
            raise FleetError({self.roster.ids[row]: error for row, error in sorted(errors.items())}, answers)

    def check_open(self) -> None:
        """Raise InvalidRequest if the application has left the sessions."""
        if self.is_left:
            raise InvalidRequest(LEFT)

    def raise_untold(self) -> None:
        """Raise what went wrong with a call whose caller left, once; its answer is had by `retry` alone then."""
        call = self.untold
        if call is not None and call.is_abandoned:
            self.untold = None
            self.raise_errors(call.account.errors)

    def forget(self) -> None:
        """Let go of everything that is held, for good."""
        self.is_left = True
        self.budget.change(-self.held.num_bytes)
        self.held.clear()
        self.news.set()
        if self._ack_timer is not None:
            self._ack_timer.cancel()

    def fail(self, error: TidegateError) -> None:
        """Nothing can be had of these sessions any more."""
        self.sessions_lost(dict.fromkeys(self.roster.live_rows.tolist(), error))

    def _keep(self, steps: IntArray) -> None:
        self.acks.keep(np.where(self.roster.live, steps, 0))
        self._schedule_acks()

    def _schedule_acks(self) -> None:
        if self.acks.has_news and self._ack_timer is None and not self.is_left:
            self._ack_timer = self._loop.call_later(QUIET_S, self.tell_acks)

    def _drop_durable(self) -> None:
        before = self.held.num_bytes
        self.held.drop_before(self.roster.droppable)
        self.budget.change(self.held.num_bytes - before)
        self.news.set()

    # What the connection tells.

    def reopened(self, rows: IntArray, durable_steps: IntArray, reached: IntArray) -> None:
        """Some sessions are open: their durable steps, shape (rows,), and their next ones, shape (n,)."""
        if self.model is None:
            self.roster.next_steps[rows] = self.roster.started_steps[rows] = reached[rows]
        self.durable(rows, durable_steps)

    def attached(
        self,
        stream: SessionStream,
        reached: IntArray,
        had: IntArray,
        versions: set[tuple[str, str, str]],
    ) -> None:
        """All sessions that are not lost are on this stream, at the steps `reached`; they had been at `had`."""
        if self.model is None:
            self.model = pinned(versions)
            self.acks.keep(self.options.kept(reached))
        self.versions = {f"{name}/{version}" for name, version, _ in versions} or self.versions
        self.stream = stream
        self.acks.forget_told()
        live = self.roster.live
        lane = Lane(
            self,
            self.roster.handles,
            self.held,
            self.acks,
            np.where(live, reached, 0),
            np.where(live, had, 0),
        )
        self._lane = lane
        if lane.is_caught_up:
            self.caught_up()
        if self.pending is not None:
            lane.put(self.pending)
        stream.put_lane(lane)
        if not self.ready.done():
            self.ready.set_result(None)

    def stream_broke(self) -> None:
        """The stream is gone; what was under way on it will be sent again on the next."""
        self.stream = self._lane = None
        self.roster.handles = np.zeros(len(self.roster), np.int64)
        self.is_caught_up.clear()
        if self.pending is not None and self.pending.account.is_over:
            self.call_over(self.pending)  # What was under way had been refused; nobody will say so now.

    def sessions_lost(self, errors: Mapping[int, TidegateError]) -> None:
        """These sessions cannot go on."""
        for row, error in errors.items():
            self.roster.lose(row, error)
            self.acks.drop(row)
        if self._lane is not None:
            self._lane.lose(errors)
        elif self.pending is not None:
            for row, error in errors.items():
                self.pending.account.refuse(np.array([row]), error)
            if self.pending.account.is_over:
                self.call_over(self.pending)
        self._drop_durable()

    def durable(self, rows: IntArray, steps: IntArray) -> None:
        """The steps of these rows before these numbers need not be sent again."""
        self.roster.raise_durable(rows, steps, self.answered_steps)
        self._drop_durable()

    # What the lane tells.

    def call_over(self, call: PendingCall) -> None:
        """Every step of the call is answered or refused."""
        if self.pending is call:
            self.roster.next_steps = call.account.first_steps + call.account.applied
            self.pending = None
            if call.account.errors:
                self.held.cut_off(self.roster.next_steps)
                self._drop_durable()
        if not call.done.done():
            call.done.set_result(None)

    def caught_up(self) -> None:
        """The server has every step again that was answered."""
        self.is_caught_up.set()
        self.news.set()
        self._schedule_acks()

    def refused_for_now(self, delay_s: float) -> None:
        """The server has no room: try again after this time."""
        lane, stream = self._lane, self.stream

        def again() -> None:
            if lane is not None and stream is not None and self._lane is lane:
                lane.rewind()
                stream.put_lane(lane)

        self._loop.call_later(leave_alone_s(delay_s), again)

    def rows_failed(self, errors: Mapping[int, TidegateError]) -> None:
        """The server refused what it had accepted before."""
        self.sessions_lost(errors)
