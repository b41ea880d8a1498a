"""Errors for requests that were taken and then refused."""

from __future__ import annotations

import numpy as np

from tidegate.errors import DeadlineExpired, StoreUnavailable
from tidegate.session.table import SessionTable


def expired(arrived_s: float, now_s: float) -> DeadlineExpired:
    """The error for a request whose time limit has passed."""
    return DeadlineExpired(f"timeout: {(now_s - arrived_s) * 1e6:.0f} µs passed before the step could start")


def not_stored(table: SessionTable, slot: int) -> StoreUnavailable:
    """The error for a step that did not happen, because its state could not be stored."""
    step = int(table.books.newest_stored(np.array([slot], np.int32))[0][0])
    return StoreUnavailable(
        f"the step could not be stored, so it was not applied: the sequence stands at step {step}"
    )
