"""A package that a command is given, a folder or a name in a model repository; and where one that it makes goes."""

from __future__ import annotations

from pathlib import Path

import click

from tidegate.errors import ModelNotFound
from tidegate.model.package import MANIFEST_FILE, ModelPackage, read_package
from tidegate.repository.repository import LATEST, Repository

into_repository = click.option(
    "--models",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("models"),
    show_default=True,
    help="Model repository that takes the package.",
)
"""The option of commands that make a package."""


def open_package(text: str, models: Path) -> ModelPackage:
    """Read the package that a user means.

    Args:
        text: The folder of a package, or of a model, whose newest version is meant; or NAME or NAME/VERSION, without
            a version the newest. A folder that holds neither does not hide a model of its name.
        models: The model repository that names are looked up in.

    Raises:
        ModelNotFound: There is neither.
        PackageError: The package is not what its manifest says.
        ConfigError: There is no such repository.
    """
    folder = package_folder(text)
    if folder is not None:
        return read_package(folder)
    name, _, version = text.partition("/")
    try:
        return Repository(models).read(name, version or LATEST)
    except ModelNotFound as error:
        if "/" not in text or not Path(text).exists():
            raise
        raise ModelNotFound(
            f"{text}: expected a folder with {MANIFEST_FILE}, or with versions that have one"
        ) from error


def package_folder(text: str) -> Path | None:
    """The folder of the package that a text names as a path; None: it is no such path."""
    folder = Path(text)
    if (folder / MANIFEST_FILE).is_file():
        return folder
    versions = [path.parent for path in folder.glob(f"*/{MANIFEST_FILE}") if path.parent.name.isdecimal()]
    return max(versions, key=lambda path: int(path.name), default=None)
