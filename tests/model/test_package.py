"""A package is there as a whole or not at all, and its bytes are those of its hash."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tidegate.errors import PackageError
from tidegate.model.manifest import (
    InitialFile,
    InitialValue,
    InputSpec,
    Manifest,
    OutputSpec,
    StatePair,
)
from tidegate.model.package import content_hash, npy_bytes, read_package, write_package
from tidegate.tensor import DType

ONNX = b"the bytes of a graph; packages do not look into them"


def make_manifest(
    onnx: bytes = ONNX, files: Mapping[str, bytes] | None = None, **changes: object
) -> Manifest:
    fields: dict[str, object] = {
        "name": "m",
        "version": "1",
        "sha256": content_hash(onnx, files or {}),
        "inputs": (InputSpec(name="x", dtype=DType.FLOAT32, shape=("batch", 1)),),
        "outputs": (OutputSpec(name="y", dtype=DType.FLOAT32, shape=("batch", 1)),),
    }
    return Manifest.model_validate(fields | changes)


def pair(initial: object) -> StatePair:
    return StatePair.model_validate(
        {
            "input_name": "h",
            "output_name": "h_next",
            "dtype": "float32",
            "shape": [2, "batch", 3],
            "initial": initial,
        }
    )


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_package_is_read_as_it_was_written(tmp_path: Path) -> None:
    manifest = make_manifest()

    path = write_package(tmp_path, manifest, ONNX)

    package = read_package(path)
    assert path == tmp_path / "m" / "1"
    assert (package.manifest, package.onnx) == (manifest, ONNX)
    assert names(path) == ["manifest.toml", "model.onnx"]
    assert names(tmp_path / "m") == ["1"]


def test_the_hash_is_what_sha256sum_prints() -> None:
    assert content_hash(ONNX, {}) == hashlib.sha256(ONNX).hexdigest()


def test_the_hash_covers_names_and_bytes_of_initial_states() -> None:
    hashes = {
        content_hash(ONNX, {}),
        content_hash(ONNX, {"h.npy": b"1"}),
        content_hash(ONNX, {"c.npy": b"1"}),
        content_hash(ONNX, {"h.npy": b"2"}),
    }

    assert len(hashes) == 4


def test_changed_bytes_are_refused(tmp_path: Path) -> None:
    path = write_package(tmp_path, make_manifest(), ONNX)
    (path / "model.onnx").write_bytes(ONNX + b".")

    with pytest.raises(PackageError, match=r"sha256: expected \w{64}, got \w{64}: the bytes have changed"):
        read_package(path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = write_package(tmp_path, make_manifest(), ONNX)
    (path / "model.onnx").write_bytes(ONNX[:-1])

    with pytest.raises(PackageError, match="the bytes have changed"):
        read_package(path)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.toml"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    path = write_package(tmp_path, make_manifest(), ONNX)
    (path / name).unlink()

    with pytest.raises(PackageError, match=f"{name}: No such file or directory"):
        read_package(path)


def test_writing_the_same_package_again_changes_nothing(tmp_path: Path) -> None:
    path = write_package(tmp_path, make_manifest(), ONNX)
    before = (path / "model.onnx").stat().st_mtime_ns

    again = write_package(tmp_path, make_manifest(), ONNX)

    assert again == path
    assert (path / "model.onnx").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "changed"), [({}, "model.onnx"), ({"description": "other"}, "manifest.toml")]
)
def test_a_version_is_never_overwritten(tmp_path: Path, changes: dict[str, object], changed: str) -> None:
    path = write_package(tmp_path, make_manifest(), ONNX)
    onnx = ONNX if changes else b"other"

    with pytest.raises(
        PackageError, match=re.escape(f"exists with another {changed}: choose the next version")
    ):
        write_package(tmp_path, make_manifest(onnx, **changes), onnx)

    assert read_package(path).onnx == ONNX


def test_a_manifest_of_other_bytes_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"m/1: sha256: expected"):
        write_package(tmp_path, make_manifest(), b"other")

    assert not (tmp_path / "m").exists()


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    # A folder of that name does not exist, so the file cannot be written.
    files = {"missing/h.npy": b"1"}

    with pytest.raises(PackageError, match=r"/m/1: No such file or directory"):
        write_package(tmp_path, make_manifest(files=files), ONNX, files)

    assert names(tmp_path / "m") == []


def test_a_repository_that_takes_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("a file")

    with pytest.raises(PackageError, match=r"/m/1: (File exists|Not a directory)"):
        write_package(tmp_path, make_manifest(), ONNX)


def test_writers_of_one_version_at_the_same_time_agree(tmp_path: Path) -> None:
    manifest = make_manifest()
    start = threading.Barrier(8)

    def write(_: int) -> Path:
        start.wait()
        return write_package(tmp_path, manifest, ONNX)

    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(write, range(8)))

    assert paths == {tmp_path / "m" / "1"}
    assert names(tmp_path / "m") == ["1"]


def test_initial_states_come_from_zeros_a_number_or_a_file(tmp_path: Path) -> None:
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    files = {"h.npy": npy_bytes(value)}
    states = tuple(
        pair(initial).model_copy(update={"input_name": f"h{k}", "output_name": f"h{k}_next"})
        for k, initial in enumerate(["zeros", InitialValue(value=1.5), InitialFile(file="h.npy")])
    )

    path = write_package(tmp_path, make_manifest(files=files, states=states), ONNX, files)

    zeros, number, loaded = read_package(path).initial_states
    assert (zeros.shape, zeros.any(), zeros.dtype) == ((2, 3), False, np.float32)
    assert (number == 1.5).all()
    assert (loaded == value).all()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            npy_bytes(np.zeros((3, 2), np.float32)),
            "initial state of 'h': expected float32 [2, 3], got float32 [3, 2]",
        ),
        (
            npy_bytes(np.zeros((2, 3))),
            "initial state of 'h': expected float32 [2, 3], got float64 [2, 3]",
        ),
        (b"not numpy", "initial state of 'h': not a .npy file"),
        (b"", "initial state of 'h': not a .npy file"),
    ],
)
def test_a_wrong_initial_state_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    files = {"h.npy": content}
    states = (pair(InitialFile(file="h.npy")),)
    path = write_package(tmp_path, make_manifest(files=files, states=states), ONNX, files)

    with pytest.raises(PackageError, match=re.escape(problem)):
        read_package(path)


def test_a_state_that_no_memory_holds_is_refused_by_name(tmp_path: Path) -> None:
    huge = StatePair(input_name="h", output_name="h_next", dtype=DType.FLOAT32, shape=("batch", 2**62))
    package = write_package(tmp_path, make_manifest(states=(huge,)), ONNX, {})

    with pytest.raises(PackageError, match="state 'h' cannot be held: "):
        read_package(package)
