"""The model repository: a folder whose `<name>/<version>/` folders are packages.

A version is a whole number from 1, so "latest" is the greatest. Whatever else lies there is left
alone: recipes beside the versions, folders being written (their names start with a dot).

A name or version from a client is only ever looked up among the folders found, never made part of a
path, so it cannot name a folder elsewhere. A package that has been loaded must stay as it was for as
long as the server runs: sessions are pinned to its version and would go on with other weights.

Holds no lock: any thread may call it; `hold` is called by one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tidegate.errors import ConfigError, ModelNotFound, PackageError
from tidegate.model.manifest import Manifest
from tidegate.model.package import MANIFEST_FILE, ModelPackage, read_package

LATEST = "latest"

MAX_LISTED = 20
"""Names that an error lists before it only counts the rest."""

_VERSION = re.compile(r"[1-9][0-9]*")


class Entry(NamedTuple):
    """A version that the repository has."""

    name: str
    version: str


class Repository:
    """The packages under one folder, as they are at the time of each call.

    Attributes:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        """Open a repository.

        Raises:
            ConfigError: There is no such folder.
        """
        self.root = root
        self._held: dict[Entry, Manifest] = {}
        self._names()

    def entries(self) -> list[Entry]:
        """Every version, by name and then by number.

        Raises:
            ConfigError: The folder has gone.
        """
        return [Entry(name, version) for name in self._names() for version in self._versions(name)]

    def latest(self, name: str) -> Entry:
        """The newest version of a model.

        Raises:
            ModelNotFound: The repository has no such model.
        """
        return Entry(name, self._versions_of(name)[-1])

    def read(self, name: str, version: str = LATEST) -> ModelPackage:
        """Read a package and prove its bytes.

        Args:
            name: Name of the model.
            version: Its version; "latest" or "" is the newest.

        Raises:
            ModelNotFound: The repository has no such model or version.
            PackageError: The package is not what its manifest says, its manifest is of another name
                or version, or it has changed since it was loaded.
        """
        entry = self._entry(name, version)
        package = read_package(self.folder(entry))
        self._check_place(entry, package)
        self._check_unchanged(entry, package)
        return package

    def hold(self, manifest: Manifest) -> None:
        """A version has been loaded from what was read: from now on anything else is refused.

        What was read and refused is not held, so that it can be mended under its number.
        """
        self._held.setdefault(Entry(manifest.name, manifest.version), manifest)

    def is_held(self, entry: Entry) -> bool:
        """Whether the version has been loaded since the server started."""
        return entry in self._held

    def folder(self, entry: Entry) -> Path:
        """Where the package of a version lies."""
        return self.root / entry.name / entry.version

    def _entry(self, name: str, version: str) -> Entry:
        if version in ("", LATEST):
            return self.latest(name)
        versions = self._versions_of(name)
        if version not in versions:
            raise ModelNotFound(
                f"no version {version!r} of model {name!r}; the repository has: {_listed(versions)}"
            )
        return Entry(name, version)

    def _check_place(self, entry: Entry, package: ModelPackage) -> None:
        manifest = package.manifest
        for key, expected, got in zip(entry._fields, entry, (manifest.name, manifest.version), strict=True):
            if got != expected:
                raise PackageError(
                    f"{package.path / MANIFEST_FILE}: {key}: expected {expected!r} as its folder, got {got!r}"
                )

    def _check_unchanged(self, entry: Entry, package: ModelPackage) -> None:
        held = self._held.get(entry, package.manifest)
        if package.manifest.sha256 != held.sha256:
            raise PackageError(
                f"{package.path}: sha256: expected {held.sha256} as loaded, got {package.manifest.sha256}: "
                "publish other bytes as the next version"
            )
        if package.manifest != held:
            raise PackageError(
                f"{package.path / MANIFEST_FILE}: changed since it was loaded: publish it as the next version"
            )

    def _versions_of(self, name: str) -> list[str]:
        """Versions of a model, oldest first; at least one."""
        names = self._names()
        versions = self._versions(name) if name in names else []
        if not versions:
            models = [other for other in names if self._versions(other)]
            raise ModelNotFound(f"no model {name!r}; the repository has: {_listed(models)}")
        return versions

    def _names(self) -> list[str]:
        try:
            return sorted(name for name in _folders(self.root) if not name.startswith("."))
        except OSError as error:
            raise ConfigError(f"--models: {self.root}: {error.strerror}") from error

    def _versions(self, name: str) -> list[str]:
        try:
            folders = _folders(self.root / name)
        except OSError:  # the model has just been removed, or is not for us to read
            return []
        return sorted(filter(_VERSION.fullmatch, folders), key=int)


def _folders(parent: Path) -> list[str]:
    return [path.name for path in parent.iterdir() if path.is_dir()]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MAX_LISTED]) or "none"
    return shown if len(names) <= MAX_LISTED else f"{shown} and {len(names) - MAX_LISTED} more"
