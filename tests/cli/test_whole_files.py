"""Files that are there whole or not at all."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tidegate.cli.whole_files import write_whole
from tidegate.errors import ConfigError

LIMIT_BYTES = 1000


@contextmanager
def small_files_only() -> Iterator[None]:
    """No file may grow past `LIMIT_BYTES`, as on a disk that is full; the file with pytest's own output neither."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_takes_the_place_of_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_whole(path, b"old and longer")

    write_whole(path, b"new")

    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_behind_a_link_is_written_and_the_link_stays(tmp_path: Path) -> None:
    path, link = tmp_path / "state", tmp_path / "link"
    link.symlink_to(path)

    write_whole(link, b"new")

    assert link.is_symlink()
    assert path.read_bytes() == b"new"


def test_what_cannot_be_written_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old")

    with small_files_only(), pytest.raises(ConfigError, match=f"{path}: File too large"):
        write_whole(path, bytes(LIMIT_BYTES + 1))

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["", "missing/state"])
def test_a_place_where_no_file_can_be_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=str(tmp_path / name)):
        write_whole(tmp_path / name, b"new")


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(ConfigError, match="/dev/null: expected a plain file"):
        write_whole(Path("/dev/null"), b"new")
