"""What a store is given: sessions that begin, new owners, states with the answers that led to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tidegate.tensor import IntArray

FORGET_NOTHING = -1
"""Stands for a step in `Claim.forget_above`."""


class ModelKey(NamedTuple):
    """The model version that a session is pinned to; `sha256` is of its ONNX file, 64 hex digits."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session that begins.

    Attributes:
        number: Not in use; greater than any that was.
        session_id: Not known to the store.
        model: Version that it is pinned to.
        creator: Client instance that may repeat the create.
        attempt: Of that instance.
        epoch: Of its first owner.
        created_s: Unix time.
        runs_ahead: As by `Store.mark_ahead`, from its beginning.
    """

    number: int
    session_id: str
    model: ModelKey
    creator: bytes
    attempt: int
    epoch: int
    created_s: float
    runs_ahead: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """A session gets a new owner.

    Attributes:
        number: Of the session.
        epoch: Of the new owner.
        opener: Its client instance.
        attempt: Of that instance.
        used_s: Unix time.
        forget_above: States at later steps are deleted; FORGET_NOTHING keeps all.
    """

    number: int
    epoch: int
    opener: bytes
    attempt: int
    used_s: float
    forget_above: int


@dataclass(frozen=True, slots=True)
class StateBatch:
    """States of sessions of one model version, no session twice.

    Attributes:
        model: The version.
        numbers: Of the sessions, int64, shape (n,); storing them in ascending order is fastest.
        session_ids: Their ids, n of them.
        rows: 0 or 1, where each state goes, int8, shape (n,).
        steps: Steps applied to each state, int64, shape (n,).
        epochs: Of the owner under which it was computed, int64, shape (n,).
        used_s: Unix time of each session's last step, float64, shape (n,).
        states: For each state pair of the manifest in order its little-endian elements in C order,
            uint8, shape (n, state_bytes), C-contiguous.
        answers: By position in the batch, the packed answer to the request that led to the state; absent for most.
    """

    model: ModelKey
    numbers: IntArray
    session_ids: Sequence[str]
    rows: NDArray[np.int8]
    steps: IntArray
    epochs: IntArray
    used_s: NDArray[np.float64]
    states: NDArray[np.uint8]
    answers: Mapping[int, bytes] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.numbers)
