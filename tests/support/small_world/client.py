"""A client with its application: what it has kept, what it can still send, what it believes."""

from __future__ import annotations

from support.small_world.messages import (
    Ack,
    Answer,
    Connection,
    Durable,
    Open,
    Opened,
    Refused,
    State,
    Step,
    ToClient,
    promise,
)
from support.small_world.witness import Witness
from tidegate.protocol.resume import NO_EPOCH, UNSET


class Client:
    """One application, over the lives of its process.

    Attributes:
        inputs: The inputs of all steps as the application knows them; those of a past that it joined
            are the witness's.
        seen: Answers that reached the application, each once and in order; `kept`: those it has put away.
        held_from: First input that it can still send.
        error: Why it has given up, "" while it has not.
    """

    def __init__(self, instance: int, mode: str, witness: Witness) -> None:
        self.instance, self.mode, self.witness = instance, mode, witness
        self.attempt = 0
        self.inputs: State = ()
        self.seen = self.kept = self.held_from = 0
        self.has_started = False
        self.told_epoch = self.last_epoch = NO_EPOCH
        self.durable = self.next_send = self.answered = 0
        self.connection: Connection | None = None
        self.is_open = False
        self.error = ""
        self._asked = (UNSET, UNSET)

    # What the application does.

    def connect(self, number: int) -> Connection:
        """Open the session on a new connection, where it was left."""
        self.attempt += 1
        self.is_open = False
        joins = self.mode == "resume" and not self.has_started
        self._asked = (UNSET, UNSET) if joins else (self.kept, self.held_from)
        mode = "resume" if self.has_started else self.mode
        message = Open(self.instance, self.attempt, mode, *self._asked, self.told_epoch)
        self.connection = Connection(number, to_server=[message])
        return self.connection

    def send(self, new_inputs: State) -> None:
        """Send what has not been sent on this connection, and new steps after it."""
        if self.connection is None or not self.is_open:
            return
        self.inputs += new_inputs
        if self.next_send < len(self.inputs):
            self.connection.to_server.append(Step(self.next_send, self.inputs[self.next_send :]))
            self.next_send = len(self.inputs)

    def keep(self) -> None:
        """Put all answers away."""
        self.kept = self.seen

    def ack(self) -> None:
        """Say what was kept, as far as this connection has reached."""
        if self.connection is not None and self.is_open:
            self.connection.to_server.append(Ack(min(self.kept, self.answered)))

    def restart(self, instance: int, *, measures_anew: bool) -> None:
        """A new process of the same application, which finds what was kept.

        Args:
            instance: Its own.
            measures_anew: Inputs whose answers were not kept are gone; the steps will have others.
        """
        self.instance, self.attempt, self.told_epoch = instance, 0, NO_EPOCH
        self.connection, self.is_open, self.error = None, False, ""
        self.seen = self.kept
        if measures_anew:
            self.inputs = self.inputs[: self.kept]

    # What it is told.

    def receive(self, connection: Connection, message: ToClient) -> None:
        """Take a message in; what comes from a connection that was given up is not listened to."""
        if connection is not self.connection or self.error:
            return
        match message:
            case Opened() if not self.is_open:
                self._opened(message)
            case Answer():
                self._answered(message)
            case Durable(step):
                promise(step <= self.kept, "a state is base that the application has not reached")
                self.durable = max(self.durable, step)
                self.held_from = max(self.held_from, step)
            case Refused(reason, is_final):
                self.connection, self.is_open = None, False
                if is_final:
                    self._give_up(reason)

    def _opened(self, m: Opened) -> None:
        have, held_from = self._asked
        promise(m.next_step <= have or have == UNSET, "a session goes on beyond what its client has")
        promise(m.next_step >= held_from, "a session goes on from inputs that its client has no more")
        opening = self.witness.openings[m.epoch]
        if self.told_epoch == NO_EPOCH and opening.past != self.inputs[: m.next_step]:
            # It was told of no past, so the session's is its own now.
            self.inputs = opening.past
            self.seen = self.kept = self.held_from = m.next_step
        self.has_started = self.is_open = True
        self.told_epoch = self.last_epoch = m.epoch
        self.next_send = self.answered = m.next_step
        self.durable = m.durable_step
        self.held_from = max(self.held_from, m.durable_step)

    def _answered(self, m: Answer) -> None:
        for k, state in enumerate(m.states, m.first):
            promise(state == self.inputs[: k + 1], f"the answer to step {k} is wrong")
            self.answered += k == self.answered
            self.seen += k == self.seen

    def _give_up(self, reason: str) -> None:
        self.error = reason
        others = self.witness.others_since(self.last_epoch, self.instance)
        upset = self._is_upset()
        match reason:
            case "DISPLACED":
                promise(others, "a client is displaced by nobody")
            case "LOST":
                safe = self.has_started and self.held_from <= self.durable
                promise(others or upset or not safe, "a state that was durable is lost")
            case "NOT_FOUND":
                promise(not self.witness.is_buried, "a loss is not reported")
                promise(upset or not self.has_started, "a session is forgotten")
            case "ENDED":
                promise(upset, "a session is ended by nobody")

    def _is_upset(self) -> bool:
        opening = self.witness.openings.get(self.last_epoch)
        return opening is None or self.witness.num_upsets > opening.num_upsets
