"""Checkpoints of a training run, so that an interrupted one is resumed by the same command.

    models/<name>/.training-<version>/<key>.pt

The key is a hash of all that decides what a run makes, so a checkpoint is only ever found by a run that
would have come to it by itself; those of other recipes or data lie beside it under other keys. A
checkpoint is written beside its place and moved there with one rename, and its bytes follow their own
hash: what a crash has cut off or a disk has damaged is not taken for a checkpoint.

The folder's name starts with a dot: servers that watch the repository do not look into it.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from tidegate.errors import ConfigError

_HASH_BYTES = hashlib.sha256().digest_size


class Checkpoints:
    """The newest checkpoint of one training run."""

    def __init__(self, repository: Path, name: str, version: str, key: str) -> None:
        """Nothing is written yet.

        Args:
            repository: Will take the package.
            name: Of the model.
            version: Of the package.
            key: Says which run this is; of letters and digits.
        """
        self.folder = repository / name / f".training-{version}"
        self.path = self.folder / f"{key}.pt"

    @property
    def num_others(self) -> int:
        """Checkpoints of runs with other keys, for the same version."""
        return sum(path != self.path for path in self.folder.glob("*.pt"))

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint; None without one, or where it is damaged.

        Raises:
            ConfigError: It cannot be read.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{self.path}: {error.strerror}") from error
        digest, content = data[:_HASH_BYTES], data[_HASH_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        try:
            found: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError):
            return None
        return found

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Write a checkpoint in place of the one before; it is on the disk when this returns.

        Args:
            checkpoint: Tensors and plain values, in dicts and lists.

        Raises:
            ConfigError: It cannot be written; the one before is as it was.
        """
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        content = buffer.getvalue()
        draft = self.path.with_suffix(f".{os.getpid()}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                file.write(hashlib.sha256(content).digest() + content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
            _sync_folder(self.folder)
        except OSError as error:
            _remove(draft)  # a full disk is not to stay full of it
            raise ConfigError(f"{draft}: {error.strerror}") from error

    def forget(self) -> None:
        """Remove this run's checkpoint, if there is one."""
        self.path.unlink(missing_ok=True)

    def remove_all(self) -> None:
        """The version is made: no run of it will be resumed any more, with whatever key."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    """Put on the disk what its files are called."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
