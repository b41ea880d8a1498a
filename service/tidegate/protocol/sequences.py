"""The rules of sequences: what a request of one is allowed to do, and what is said where it is not.

A sequence is a session whose client knows no step numbers. It begins with a request that says so, takes the
requests that follow in their order of arrival, and ends with one that says so. What makes it safe to send a
request again is its id: the last one that was accepted is known, and is answered again instead of being applied
again. A client that wants more says which step its request begins with.

What always holds: a request that is refused changes nothing, and those behind it are judged on their own.

No I/O, no clock.
"""

from __future__ import annotations

from enum import IntEnum

from tidegate.errors import InvalidRequest, SessionLost, SessionNotFound, WrongStep


class Course(IntEnum):
    """What is known of a sequence when a request of it has its turn."""

    NONE = 0
    """Never begun, or ended."""

    GOING = 1
    """It waits for its next step, in memory or in the store."""

    BEHIND = 2
    """Only in the store, which may not have all steps that were answered."""

    LOST = 3
    """Its state was given up, and the id remembered."""


class Action(IntEnum):
    """What is done with the request."""

    BEGIN = 0
    """Begin the sequence."""

    BEGIN_ANEW = 1
    """End its old course, or forget that it was lost, and begin it; the operator is told."""

    GO_ON = 2
    """Take the steps as those that come next."""

    GO_ON_IF_SURE = 3
    """Go on if the request says where the sequence stands; else refuse it as lost."""

    REFUSE_AS_UNKNOWN = 4
    REFUSE_AS_LOST = 5


ACTIONS: dict[tuple[Course, bool], Action] = {
    (Course.NONE, True): Action.BEGIN,
    (Course.GOING, True): Action.BEGIN_ANEW,
    (Course.BEHIND, True): Action.BEGIN_ANEW,
    (Course.LOST, True): Action.BEGIN_ANEW,
    (Course.NONE, False): Action.REFUSE_AS_UNKNOWN,
    (Course.GOING, False): Action.GO_ON,
    (Course.BEHIND, False): Action.GO_ON_IF_SURE,
    (Course.LOST, False): Action.REFUSE_AS_LOST,
}
"""By what is known, and by whether the request begins the sequence. Whoever begins one anew knows that the
old course is over, so it is never refused; the log and a metric tell the operator, who may know otherwise."""


def check_step(step: int | None, expected: int) -> None:
    """Hold the number that a request gives its first step against the one that the sequence waits for.

    Args:
        step: None if it gives none.
        expected: 0 for a request that begins it.

    Raises:
        WrongStep: It is another one.
    """
    if step is not None and step != expected:
        raise WrongStep(f"step: expected {expected}, got {step}", expected_step=expected)


def is_repeat(request_id: str, digest: bytes, last_id: str, last_digest: bytes) -> bool:
    """Whether a request is the last one over again.

    Args:
        request_id: Its id, "" for none.
        digest: Of its inputs.
        last_id: Id of the last request that was accepted; "" for none.
        last_digest: Of that one's inputs.

    Raises:
        InvalidRequest: It has the same id and other inputs.
    """
    if not request_id or request_id != last_id:
        return False
    if digest != last_digest:
        raise InvalidRequest(
            f"id: request id {request_id!r} repeated with other inputs: give every request an id of its own, or none"
        )
    return True


def not_kept(first_step: int, num_steps: int) -> WrongStep:
    """The error for a repeated request whose answer was too large to be kept."""
    last = first_step + num_steps - 1
    steps = f"step {first_step}" if num_steps == 1 else f"steps {first_step} to {last}"
    return WrongStep(
        f"id: the request was applied as {steps}, and its answer is too large to be kept for a repeat",
        expected_step=last + 1,
    )


def unknown(name: str) -> SessionNotFound:
    """The error for a sequence that has not begun, or has ended; `name` as `SequenceKey` writes it."""
    return SessionNotFound(f"no {name}: begin it with sequence_start")


def lost(name: str, next_step: int, durable_step: int, reason: str) -> SessionLost:
    """The error for a sequence whose state was given up after `next_step` steps."""
    return SessionLost(
        f"{name} was lost after {next_step} steps: {reason}; begin it anew with sequence_start",
        next_step=next_step,
        durable_step=durable_step,
    )


def behind(name: str, next_step: int, damage: str) -> SessionLost:
    """The error for a sequence that the store has up to `next_step`, while later steps may have been answered.

    Args:
        name: As `SequenceKey` writes it.
        next_step: Step of the newest state that there is.
        damage: What is wrong in the store; "" if the server stopped before it had stored everything.
    """
    why = damage or "the server stopped before it could store what it may have answered since"
    return SessionLost(
        f"{name} is stored up to step {next_step}, and later steps may be lost: {why}; begin it anew with "
        f"sequence_start, or go on with step={next_step} if that comes next",
        next_step=next_step,
        durable_step=next_step,
    )
