"""Notices versions that come to the repository or change there, once they are at rest.

A package may be copied file by file, so what is seen first is half of one. A version is *at rest* when
nothing in its folder has changed for a moment and its bytes have its manifest's hash; or when nothing has
changed for so long that nobody can be writing it any more, whatever it holds. Until then nothing is said
of it.

Time and the system's notices come from outside: the one who calls `look` decides when. It reads the
disk, so it is called in a worker thread, one call at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from watchfiles import Change, awatch

from tidegate.errors import PackageError
from tidegate.model.package import read_package
from tidegate.repository.repository import Entry, Repository

SETTLE_S = 0.5
"""A folder that has not changed for so long is read. A manifest is written in one go, its package is not."""

PATIENCE_S = 60.0
"""A folder that has not changed for so long is complete, even if what it holds is wrong."""

RESCAN_S = 10.0
"""Time between two looks without a notice: network folders, and some containers, send none."""

Print = frozenset[tuple[str, int, int, int]]
"""Name, size, time of change and inode of every file in a folder."""


@dataclass(slots=True)
class _Folder:
    """What is known of a version's folder.

    Attributes:
        changed_at_s: When it was first seen as it is.
        was_read: It has been at rest once, and was not whole.
        is_judged: It has been reported, or was there at the start.
    """

    print: Print
    changed_at_s: float
    was_read: bool = False
    is_judged: bool = False


class Watch:
    """Compares the repository with what it was at the look before."""

    def __init__(self, repository: Repository) -> None:
        """Remember what is there now; that is not reported unless it changes.

        Raises:
            ConfigError: The repository has gone.
        """
        self._repository = repository
        self._folders = {
            e: _Folder(_fingerprint(repository.folder(e)), 0.0, is_judged=True) for e in repository.entries()
        }

    def look(self, now_s: float) -> list[Entry]:
        """The versions that have come or changed and are at rest, each change once.

        Args:
            now_s: The time, on a clock that only goes forward.

        Returns:
            By name, and the newest version of each first.

        Raises:
            ConfigError: The repository has gone.
        """
        self._folders = {e: self._as_it_is(e, now_s) for e in self._repository.entries()}
        found = [e for e, folder in self._folders.items() if self._judge(e, folder, now_s)]
        return sorted(found, key=lambda e: (e.name, -int(e.version)))

    @property
    def next_look_s(self) -> float:
        """Longest time until the next look, in seconds."""
        unread = any(not (f.is_judged or f.was_read) for f in self._folders.values())
        return SETTLE_S if unread else RESCAN_S

    def _as_it_is(self, entry: Entry, now_s: float) -> _Folder:
        before, seen = self._folders.get(entry), _fingerprint(self._repository.folder(entry))
        return before if before is not None and before.print == seen else _Folder(seen, now_s)

    def _judge(self, entry: Entry, folder: _Folder, now_s: float) -> bool:
        still_s = now_s - folder.changed_at_s
        if folder.is_judged or still_s < SETTLE_S:
            return False
        is_whole = not folder.was_read and _is_whole(self._repository.folder(entry))
        folder.was_read = True
        folder.is_judged = is_whole or still_s >= PATIENCE_S
        return folder.is_judged


async def notices(root: Path, notice: Callable[[], None]) -> None:
    """Call `notice` whenever the system tells of a change below a folder, until cancelled.

    Args:
        root: An absolute path without links.
        notice: Called in the event loop's thread, once for changes that come together.

    Raises:
        OSError: The system cannot tell: it has no watches left, or the folder has gone.
    """

    def is_public(_: Change, path: str) -> bool:
        return not any(part.startswith(".") for part in Path(path).relative_to(root).parts)

    async for _ in awatch(root, watch_filter=is_public):
        notice()


def _is_whole(folder: Path) -> bool:
    try:
        read_package(folder)
    except PackageError:
        return False
    return True


def _fingerprint(folder: Path) -> Print:
    """What changes when anything in a folder does; empty if it cannot be read."""
    try:
        with os.scandir(folder) as files:
            return frozenset(
                (f.name, (stat := f.stat()).st_size, stat.st_ctime_ns, stat.st_ino) for f in files
            )
    except OSError:  # it is being removed, or a link leads nowhere
        return frozenset()
