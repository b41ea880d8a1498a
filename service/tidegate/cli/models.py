"""`tidegate models`: look at models, on a server or in packages, and import them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tidegate.cli.connection import ONE_SHOT, address_option, print_facts, print_table
from tidegate.cli.figure_tables import kept_figures, print_tables
from tidegate.cli.importing import import_model
from tidegate.cli.model_facts import EXACTNESS, Facts, package_facts, served_facts
from tidegate.cli.packages import package_folder
from tidegate.client import Client, ModelInfo
from tidegate.errors import ModelNotFound
from tidegate.model.package import MANIFEST_FILE, read_package
from tidegate.repository.repository import LATEST


@click.group
def models() -> None:
    """Look at models, on a server or in packages, and import them."""


@models.command("list")
@click.argument("name", default="")
@address_option
def list_models(name: str, address: str) -> None:
    """List the versions in the server's repository, or those of the model NAME."""
    with Client(address, recovery=ONE_SHOT) as client:
        found = client.models.list(name)
    print_table(
        ("MODEL", "VERSION", "STATE", "BATCH-EXACT", "DEVICE", "DESCRIPTION"),
        [(m.name, m.version, m.state, _word(m), m.device, m.failure or m.description) for m in found],
    )


@models.command("show")
@click.argument("name")
@click.option("--version", default="latest", show_default=True, help="The version.")
@address_option
def show_model(name: str, version: str, address: str) -> None:
    """Show what the model NAME takes and gives, and how good it was when it was made.

    A server is asked. Where NAME has a slash, as models/co2-weekly/1 has, it is the folder of a package, or of a model
    whose newest version is meant, and needs no server.
    """
    if "/" in name or name in (".", ".."):
        facts, provenance = _read_facts(name, version)
    else:
        with Client(address, recovery=ONE_SHOT) as client:
            model = client.models.get(name, version)
        facts, provenance = served_facts(model), model.provenance
    print_facts(facts)
    tables = kept_figures(provenance)
    if tables:
        click.echo()
        print_tables(tables)


@models.command("verify")
@click.argument("package", type=click.Path(path_type=Path, exists=True, file_okay=False))
def verify_model(package: Path) -> None:
    """Check the package in the folder PACKAGE: its bytes, its manifest, and that it loads and runs."""
    read = read_package(package)
    click.echo(f"{read.manifest.label}: bytes and manifest agree (sha256 {read.manifest.sha256[:12]}…)")

    from tidegate.runner.runner import Runner, RunnerOptions

    runner = Runner(read, RunnerOptions(max_sessions=256))
    click.echo(f"{read.manifest.label}: loads on the CPU in {runner.load_s:.2f} s")
    detail = f" ({runner.exactness.detail})" if runner.exactness.detail else ""
    click.echo(f"{read.manifest.label}: {EXACTNESS[runner.batch_exactness]}{detail}")


models.add_command(import_model)


def _read_facts(path: str, version: str) -> tuple[Facts, Mapping[str, Any]]:
    folder = package_folder(path if version == LATEST else f"{path}/{version}")
    if folder is None:
        wanted = "" if version == LATEST else f" of version {version}"
        raise ModelNotFound(f"{path}: expected the folder of a package{wanted}, with {MANIFEST_FILE}")
    package = read_package(folder)
    return package_facts(package), package.manifest.provenance


def _word(model: ModelInfo) -> str:
    return {"exact": "yes", "serial": "no, serial", "off": "no"}.get(model.batch_exactness, "")
