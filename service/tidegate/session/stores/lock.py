"""One server per store: a lock on a file beside it, which the kernel lets go of with the process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self

from tidegate.errors import ConfigError


class FileLock:
    """A lock that is held from `acquire` to `release` or to the end of the process, however it ends.

    The file stays: removing it could leave two servers with a lock each, on two files of one name.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, store: Path) -> Self:
        """Take the lock of a store's file.

        Raises:
            ConfigError: Another server has it, or the lock file cannot be made.
        """
        path = store.with_name(store.name + ".lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigError(f"store {store}: cannot make {path.name}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise ConfigError(f"store {store}: another server uses it (process {holder})") from error
            raise ConfigError(f"store {store}: cannot lock {path.name}: {error.strerror}") from error
        lock = cls(descriptor)
        lock._sign()
        return lock

    def release(self) -> None:
        """Let go of the lock."""
        os.close(self._descriptor)

    def _sign(self) -> None:
        """Leave the process id for the message that a second server gives; nothing else reads it."""
        try:
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, str(os.getpid()).encode())
        except OSError:  # a full disk is no reason to refuse the lock
            return
