"""What the client does about a lost connection, and what an application may choose about it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tidegate.errors import InvalidRequest

_JITTER = 0.5
"""Delays are drawn from this part of their length up to all of it: clients that lost the same server do
not come back at the same moment."""

_SHORTEST_S = 0.02
"""No server is asked again sooner, whatever it says."""


@dataclass(frozen=True, kw_only=True)
class RecoveryOptions:
    """What may be chosen about lost connections."""

    max_held_bytes: int = 64 * 1024 * 1024
    """Most bytes of inputs that the client holds, to send them again if the server loses them. They are
    let go once the server reports their steps as durable. One session or fleet may fill half of what
    the others leave free, so that none can shut out the rest; a call of more than that is refused."""

    when_full: Literal["wait", "fail"] = "wait"
    """What a call does while its inputs find no room, because the server's checkpoints have stopped:
    wait, within its time limit, or raise `BufferFull` at once."""

    first_delay_s: float = 0.1
    """Longest pause before the first attempt to connect again; each further one is twice as long."""

    max_delay_s: float = 2.0
    """Longest pause between two attempts. A server that comes back is most often found within 1 s."""

    open_timeout_s: float = 10.0
    """How long opening sessions, and a single call without a time limit of its own, keep trying while the
    server cannot be reached or has no room. A session that is open keeps trying for as long as it is
    used: its calls have their own limits."""

    def __post_init__(self) -> None:
        if self.when_full not in ("wait", "fail"):
            raise InvalidRequest(f"when_full: expected wait or fail, got {self.when_full!r}")
        for name in ("max_held_bytes", "first_delay_s", "max_delay_s", "open_timeout_s"):
            if not getattr(self, name) > 0:
                raise InvalidRequest(f"{name}: expected more than 0, got {getattr(self, name)}")


def leave_alone_s(hint_s: float | None) -> float:
    """For how long to leave a server alone that said when to come back, in seconds.

    Its hint, and up to half as much again: whoever was refused at the same moment was told the same.
    """
    return max(hint_s or 0.0, _SHORTEST_S) * random.uniform(1.0, 1.0 + _JITTER)  # noqa: S311 as below


def delays_s(options: RecoveryOptions) -> Iterator[float]:
    """Pauses before the attempts to connect again, in seconds, without end."""
    longest_s = options.first_delay_s
    while True:
        yield longest_s * random.uniform(_JITTER, 1.0)  # noqa: S311 keeps clients apart, guards nothing
        longest_s = min(2 * longest_s, options.max_delay_s)
