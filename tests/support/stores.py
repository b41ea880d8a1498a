"""Sessions and states for tests of stores."""

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tidegate.session.stores.changes import ModelKey, NewSession, StateBatch
from tidegate.session.stores.opening import open_store
from tidegate.session.stores.store import Store

MODEL = ModelKey("co2", "3", "ab" * 32)
OTHER_MODEL = ModelKey("wind", "1", "cd" * 32)
STATE_BYTES = 48
CREATED_S = 1_700_000_000.5


def open_for_test(
    path: Path | None, *, max_stored_sessions: int = 10_000, max_tombstones: int = 100
) -> Store:
    """The store in a file, or in memory."""
    return open_store(
        "memory:" if path is None else f"sqlite:///{path}",
        full_sync=False,
        max_stored_sessions=max_stored_sessions,
        max_tombstones=max_tombstones,
    )


def session(
    number: int, *, model: ModelKey = MODEL, epoch: int = 100, runs_ahead: bool = False
) -> NewSession:
    """The session `s<number>`."""
    return NewSession(number, f"s{number}", model, b"client", 1, epoch, CREATED_S, runs_ahead)


def state(number: int, step: int, epoch: int = 100) -> bytes:
    """The one state that tests write for a session at a step under an epoch."""
    return np.random.default_rng((number, step, epoch)).bytes(STATE_BYTES)


def batch(
    numbers: Sequence[int],
    *,
    row: int,
    step: int,
    epoch: int = 100,
    model: ModelKey = MODEL,
    used_s: float = CREATED_S,
    answers: Mapping[int, bytes] | None = None,
) -> StateBatch:
    """The states of sessions at one step, with answers to some by position."""
    count = len(numbers)
    raw = b"".join(state(n, step, epoch) for n in numbers)
    return StateBatch(
        model,
        np.array(numbers, np.int64),
        [f"s{n}" for n in numbers],
        np.full(count, row, np.int8),
        np.full(count, step, np.int64),
        np.full(count, epoch, np.int64),
        np.full(count, used_s),
        np.frombuffer(raw, np.uint8).reshape(count, STATE_BYTES),
        answers or {},
    )


def change(path: Path, statement: str, *values: object) -> None:
    """Change a closed store's tables behind its back."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, values)
    connection.close()
