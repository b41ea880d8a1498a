"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tidegate.errors import ConfigError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, in the place of an older one if there is one; it is on the disk when this returns.

    Nobody else can read the file: a state may say more than its owner wants told.

    Raises:
        ConfigError: It cannot be written; an older file is as it was.
    """
    place = path.resolve()  # a link stays one
    if place.exists() and not place.is_file():
        raise ConfigError(f"{path}: expected a plain file, or none")
    try:
        with tempfile.NamedTemporaryFile(dir=place.parent, prefix=f".{place.name}-", delete=False) as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(place)
            except BaseException:
                Path(file.name).unlink()
                raise
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
