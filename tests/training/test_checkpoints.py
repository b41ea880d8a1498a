"""A checkpoint is there whole or not at all, and only for the run that wrote it."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from tidegate.errors import ConfigError
from tidegate.repository.repository import Repository
from tidegate.training.checkpoints import Checkpoints


def checkpoints(repository: Path, key: str = "a1") -> Checkpoints:
    return Checkpoints(repository, "tiny", "1", key)


def test_what_was_saved_last_is_loaded(tmp_path: Path) -> None:
    checkpoints(tmp_path).save({"epoch": 1})
    saved = {
        "weights": {"w": torch.arange(3.0)},
        "random": {"state": 2**120, "name": "PCG64"},
        "rows": [1, 2],
    }

    checkpoints(tmp_path).save(saved)

    found = checkpoints(tmp_path).load()
    assert found is not None
    assert found["weights"]["w"].tolist() == [0, 1, 2]
    assert (found["random"], found["rows"]) == (saved["random"], [1, 2])
    assert [p.name for p in (tmp_path / "tiny" / ".training-1").iterdir()] == ["a1.pt"]


def test_nothing_is_loaded_before_something_was_saved(tmp_path: Path) -> None:
    assert checkpoints(tmp_path).load() is None


def test_that_of_another_run_is_counted_and_not_loaded(tmp_path: Path) -> None:
    checkpoints(tmp_path, "b2").save({"epoch": 1})
    mine = checkpoints(tmp_path, "a1")

    assert (mine.load(), mine.num_others) == (None, 1)
    assert checkpoints(tmp_path, "b2").num_others == 0


@pytest.mark.parametrize("where", [0, 31, 32, 200, -1])
def test_a_damaged_one_is_not_loaded(tmp_path: Path, where: int) -> None:
    checkpoints(tmp_path).save({"weights": torch.arange(64.0)})
    path = checkpoints(tmp_path).path
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)

    assert checkpoints(tmp_path).load() is None


@pytest.mark.parametrize("length", [0, 20, 32, 100])
def test_one_that_was_cut_off_is_not_loaded(tmp_path: Path, length: int) -> None:
    checkpoints(tmp_path).save({"weights": torch.arange(64.0)})
    path = checkpoints(tmp_path).path
    path.write_bytes(path.read_bytes()[:length])

    assert checkpoints(tmp_path).load() is None


def test_one_that_is_no_file_is_named(tmp_path: Path) -> None:
    checkpoints(tmp_path).path.mkdir(parents=True)

    with pytest.raises(ConfigError, match=r"a1\.pt: Is a directory"):
        checkpoints(tmp_path).load()
    with pytest.raises(ConfigError, match=r"\.training-1/a1\..*: Is a directory"):
        checkpoints(tmp_path).save({})


def test_a_disk_that_is_full_is_named_and_is_left_as_it_was(tmp_path: Path) -> None:
    checkpoints(tmp_path).save({"epoch": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))

    try:
        with pytest.raises(ConfigError, match=r"\.training-1/a1\..*: File too large"):
            checkpoints(tmp_path).save({"weights": torch.arange(100_000.0)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert [p.name for p in checkpoints(tmp_path).folder.iterdir()] == ["a1.pt"]
    assert checkpoints(tmp_path).load() == {"epoch": 1}


def test_forgetting_one_leaves_the_others(tmp_path: Path) -> None:
    for key in ("a1", "b2"):
        checkpoints(tmp_path, key).save({"epoch": 1})

    checkpoints(tmp_path, "a1").forget()

    assert checkpoints(tmp_path, "a1").load() is None
    assert checkpoints(tmp_path, "b2").load() == {"epoch": 1}


def test_removing_all_leaves_no_folder(tmp_path: Path) -> None:
    for key in ("a1", "b2"):
        checkpoints(tmp_path, key).save({"epoch": 1})

    checkpoints(tmp_path, "a1").remove_all()

    assert list((tmp_path / "tiny").iterdir()) == []


def test_a_repository_does_not_take_them_for_a_version(tmp_path: Path) -> None:
    checkpoints(tmp_path).save({"epoch": 1})

    assert Repository(tmp_path).entries() == []
