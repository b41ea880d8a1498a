"""Whose session a handle of a stream is.

Messages about many sessions (durable steps, notices) are split by owner with array functions: a fleet
of 10,000 is told of itself in microseconds, not row by row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from tidegate.tensor import IntArray

Owner = TypeVar("Owner")


@dataclass(frozen=True)
class Share(Generic[Owner]):
    """What of a message belongs to one owner.

    Attributes:
        owner: The owner.
        rows: Its rows, shape (k,).
        positions: Where they are in the message, shape (k,).
    """

    owner: Owner
    rows: IntArray
    positions: IntArray


class HandleMap(Generic[Owner]):
    """From handles to owners and their rows."""

    def __init__(self) -> None:
        self._owners: dict[int, Owner] = {}
        self._next_number = 0
        self._number_of: dict[int, int] = {}
        self._added: list[tuple[IntArray, IntArray, IntArray]] = []
        self._handles: IntArray = np.zeros(0, np.int64)
        self._rows: IntArray = np.zeros(0, np.int64)
        self._numbers: IntArray = np.zeros(0, np.int64)

    def add(self, owner: Owner, handles: IntArray, rows: IntArray) -> None:
        """Handles, shape (k,), are these rows of an owner from now on."""
        number = self._number_of.get(id(owner))
        if number is None:
            number = self._number_of[id(owner)] = self._next_number
            self._owners[number] = owner
            self._next_number += 1
        self._added.append((handles, rows, np.full(len(handles), number)))

    def discard(self, handles: Sequence[int] | IntArray) -> None:
        """Handles are nobody's any more."""
        self._sort()
        stays = ~np.isin(self._handles, handles)
        for number in np.setdiff1d(self._numbers[~stays], self._numbers[stays]).tolist():
            del self._number_of[id(self._owners.pop(number))]
        self._handles, self._rows, self._numbers = (
            x[stays] for x in (self._handles, self._rows, self._numbers)
        )

    def split(self, handles: Sequence[int]) -> Iterator[Share[Owner]]:
        """Part a message by owner; handles that are nobody's are left out."""
        self._sort()
        wanted = np.asarray(handles, np.int64)
        at = np.minimum(np.searchsorted(self._handles, wanted), max(0, len(self._handles) - 1))
        positions = np.flatnonzero(self._handles[at] == wanted) if len(self._handles) else wanted[:0]
        at = at[positions]
        numbers = self._numbers[at]
        for number in np.unique(numbers).tolist():
            mine = numbers == number
            yield Share(self._owners[number], self._rows[at[mine]], positions[mine])

    def all(self) -> Iterator[Share[Owner]]:
        """Everybody, with all rows; positions count the handles in ascending order."""
        self._sort()
        return self.split(self._handles.tolist())

    def _sort(self) -> None:
        if not self._added:
            return
        parts = [(self._handles, self._rows, self._numbers), *self._added]
        handles, rows, numbers = (np.concatenate([part[i] for part in parts]) for i in range(3))
        order = np.argsort(handles, kind="stable")
        self._handles, self._rows, self._numbers = handles[order], rows[order], numbers[order]
        self._added.clear()
