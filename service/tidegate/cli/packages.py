"""A package that a command is given, a folder or a name in a model repository; and where one that it makes goes."""

from __future__ import annotations

from pathlib import Path

import click

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
        text: The folder of a package, or NAME or NAME/VERSION; without a version it is the newest.
        models: The model repository that names are looked up in.

    Raises:
        ModelNotFound: There is neither.
        PackageError: The package is not what its manifest says.
        ConfigError: There is no such repository.
    """
    folder = Path(text)
    if (folder / MANIFEST_FILE).is_file():
        return read_package(folder)
    if folder.is_dir() and folder.name:  # `models/NAME`, as a shell completes it
        return Repository(folder.parent).read(folder.name)
    name, _, version = text.partition("/")
    return Repository(models).read(name, version or LATEST)
