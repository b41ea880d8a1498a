"""A model package: a folder with `model.onnx`, `manifest.toml` and, where needed, initial states.

    models/<name>/<version>/model.onnx
                            manifest.toml
                            <initial state>.npy

A package is written beside its place and moved there with one rename, so a reader sees the whole of
it or nothing. Bytes never change under a version: writing other bytes to a version that exists is
refused, and so is reading bytes that do not have the manifest's hash.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tidegate.errors import PackageError
from tidegate.model.manifest import (
    InitialFile,
    InitialValue,
    Manifest,
    StatePair,
    format_manifest,
    parse_manifest,
)
from tidegate.tensor import Array, format_shape

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.toml"


@dataclass(frozen=True)
class ModelPackage:
    """A package that has been read and whose bytes have the manifest's hash.

    Attributes:
        path: Folder of the package.
        manifest: What the graph takes, gives and carries.
        onnx: The bytes of the ONNX file; those that were hashed are those that are run.
        initial_states: For each state pair, in order, the value for one session, shape `step_shape`.
    """

    path: Path
    manifest: Manifest
    onnx: bytes
    initial_states: tuple[Array, ...]


def content_hash(onnx: bytes, initial_files: Mapping[str, bytes]) -> str:
    """SHA-256 in hex over the ONNX file and, in order of their names, the initial-state files.

    Without initial-state files it is what `sha256sum model.onnx` prints.
    """
    digest = hashlib.sha256(onnx)
    for name in sorted(initial_files):
        digest.update(name.encode() + b"\0" + initial_files[name])
    return digest.hexdigest()


def read_package(path: Path) -> ModelPackage:
    """Read a package and prove its bytes.

    Raises:
        PackageError: A file is missing, the manifest is not valid, the hash differs, or an initial
            state does not have its pair's shape and dtype.
    """
    manifest = parse_manifest(
        _read(path / MANIFEST_FILE).decode(errors="replace"), source=str(path / MANIFEST_FILE)
    )
    onnx = _read(path / MODEL_FILE)
    files = {name: _read(path / name) for name in _initial_file_names(manifest)}
    found = content_hash(onnx, files)
    if found != manifest.sha256:
        raise PackageError(f"{path}: sha256: expected {manifest.sha256}, got {found}: the bytes have changed")
    return assemble_package(path, manifest, onnx, files)


def assemble_package(
    path: Path, manifest: Manifest, onnx: bytes, initial_files: Mapping[str, bytes]
) -> ModelPackage:
    """A package from its parts, which need not be written anywhere; its hash is not looked at.

    Args:
        path: Where it lies, or is to.
        manifest: What the graph takes, gives and carries.
        onnx: The bytes of the ONNX file.
        initial_files: Those of the initial states, by file name.

    Raises:
        PackageError: An initial state does not have its pair's shape and dtype.
    """
    states = tuple(_initial_state(path, pair, initial_files) for pair in manifest.states)
    return ModelPackage(path, manifest, onnx, states)


def write_package(
    repository: Path, manifest: Manifest, onnx: bytes, initial_files: Mapping[str, bytes] | None = None
) -> Path:
    """Write a package under `repository/<name>/<version>/`, whole or not at all.

    Writing the same package again is a no-op.

    Returns:
        Folder of the package.

    Raises:
        PackageError: The version exists with other bytes, or the manifest's hash is not that of the
            bytes given, or the package cannot be written.
    """
    files = dict(initial_files or {})
    found = content_hash(onnx, files)
    if found != manifest.sha256:
        raise PackageError(f"{manifest.label}: sha256: expected {found}, got {manifest.sha256}")
    target = repository / manifest.name / manifest.version
    contents = {MODEL_FILE: onnx, MANIFEST_FILE: format_manifest(manifest).encode(), **files}
    if target.exists():
        _check_unchanged(target, contents)
        return target
    try:
        _put_in_place(target, contents)
    except OSError as error:
        if not target.exists():
            raise PackageError(f"{target}: {error.strerror}") from error
        # Another process wrote the version meanwhile.
        _check_unchanged(target, contents)
    return target


def npy_bytes(value: Array) -> bytes:
    """An initial state as the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=False)
    return buffer.getvalue()


def _put_in_place(target: Path, contents: Mapping[str, bytes]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for name, data in contents.items():
            _write_synced(staging / name, data)
        staging.chmod(0o755)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)  # gone already, unless something failed


def _check_unchanged(target: Path, contents: Mapping[str, bytes]) -> None:
    changed = [name for name, data in contents.items() if _read(target / name) != data]
    if changed:
        raise PackageError(f"{target}: exists with another {changed[0]}: choose the next version number")


def _initial_file_names(manifest: Manifest) -> list[str]:
    return sorted({s.initial.file for s in manifest.states if isinstance(s.initial, InitialFile)})


def _initial_state(path: Path, pair: StatePair, files: Mapping[str, bytes]) -> Array:
    if not isinstance(pair.initial, InitialFile):
        value = pair.initial.value if isinstance(pair.initial, InitialValue) else 0
        try:
            return np.full(pair.step_shape, value, pair.dtype.numpy)
        except (ValueError, MemoryError) as error:
            raise PackageError(f"{path}: state {pair.input_name!r} cannot be held: {error}") from error
    source = f"{path / pair.initial.file}: initial state of {pair.input_name!r}"
    try:
        # Not np.load: it also opens archives, and ends an empty file with another error.
        state: Array = np.lib.format.read_array(io.BytesIO(files[pair.initial.file]), allow_pickle=False)
    except ValueError as error:
        raise PackageError(f"{source}: not a .npy file: {error}") from error
    if state.shape != pair.step_shape or state.dtype != pair.dtype.numpy:
        expected = f"{pair.dtype} {format_shape(pair.step_shape)}"
        raise PackageError(f"{source}: expected {expected}, got {state.dtype} {format_shape(state.shape)}")
    return state


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PackageError(f"{path}: {error.strerror}") from error


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
