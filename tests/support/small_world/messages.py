"""What clients and server say to each other, and the connections that carry it."""

from __future__ import annotations

from dataclasses import dataclass, field

State = tuple[int, ...]
"""The state of the toy model: the inputs of all its steps. The answer to a step is the state after it."""


class PromiseBroken(Exception):
    """The world has seen something that the protocol promises never to happen."""


def promise(holds: bool, text: str) -> None:
    """Raise PromiseBroken unless the promise holds."""
    if not holds:
        raise PromiseBroken(text)


@dataclass(frozen=True)
class Open:
    instance: int
    attempt: int
    mode: str
    have: int
    held_from: int
    epoch: int


@dataclass(frozen=True)
class Opened:
    next_step: int
    durable_step: int
    epoch: int


@dataclass(frozen=True)
class Step:
    first: int
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class Answer:
    first: int
    states: tuple[State, ...]


@dataclass(frozen=True)
class Ack:
    step: int


@dataclass(frozen=True)
class Durable:
    step: int


@dataclass(frozen=True)
class Refused:
    """An error, by its reason; `is_final`: the session is not to be asked for again."""

    reason: str
    is_final: bool


ToServer = Open | Step | Ack
ToClient = Opened | Answer | Durable | Refused


@dataclass
class Connection:
    """Messages under way, both ways; they may arrive after either side has given the connection up."""

    client: int
    to_server: list[ToServer] = field(default_factory=list)
    to_client: list[ToClient] = field(default_factory=list)
    at_server: bool = True
    """The server has not noticed that it is cut."""
