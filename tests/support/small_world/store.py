"""A store that lags: what is queued is committed later, or lost in a crash, and so may be its tail."""

from __future__ import annotations

from dataclasses import dataclass, replace

from support.small_world.messages import State
from tidegate.protocol.checkpoints import PendingWrite


@dataclass(frozen=True)
class Kept:
    """One stored state."""

    step: int
    state: State
    epoch: int


@dataclass(frozen=True)
class Disk:
    """What is committed of the session."""

    is_known: bool = False
    is_buried: bool = False
    creator: int = 0
    opener: int = 0
    attempt: int = 0
    epoch: int = 0
    rows: tuple[Kept | None, Kept | None] = (None, None)

    @property
    def steps(self) -> list[int]:
        """Steps of the states in the two rows, -1 for none."""
        return [-1 if kept is None else kept.step for kept in self.rows]


@dataclass
class Store:
    """The disk, what it was after each commit, and the writes that wait."""

    def __post_init__(self) -> None:
        self.disk = Disk()
        self.history = [self.disk]
        self.queue: list[tuple[PendingWrite, Kept]] = []

    def commit(self, disk: Disk) -> None:
        """Everything before was committed already."""
        assert not self.queue
        self._put(disk)

    def commit_write(self) -> PendingWrite:
        """Commit the oldest write that waits."""
        write, kept = self.queue.pop(0)
        rows = (kept, self.disk.rows[1]) if write.rows[0] == 0 else (self.disk.rows[0], kept)
        self._put(replace(self.disk, rows=rows))
        return write

    def crash(self, lost_commits: int) -> bool:
        """Lose what waits, and so many of the last commits; whether there were any to lose."""
        self.queue.clear()
        keep = max(1, len(self.history) - lost_commits)
        was = self.disk
        del self.history[keep:]
        self.disk = self.history[-1]
        return self.disk != was

    def _put(self, disk: Disk) -> None:
        self.disk = disk
        self.history.append(disk)
