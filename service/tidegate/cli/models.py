"""`tidegate models`: look at models, on a server or in packages, and import them."""

from __future__ import annotations

from pathlib import Path

import click

from tidegate.cli.connection import ONE_SHOT, address_option, clock, print_facts, print_table
from tidegate.cli.figure_tables import kept_figures, print_tables
from tidegate.cli.importing import import_model
from tidegate.client import Client, ModelInfo, TensorSpec, TimeRules
from tidegate.model.package import read_package
from tidegate.tensor import format_shape

_EXACTNESS = {
    "exact": "exact: answers are bit-identical alone and batched",
    "serial": "not exact, so run one row and one step at a time",
    "off": "not exact, batched all the same because its manifest asks for it",
    "unspecified": "",
}


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
    """Show what the model NAME takes and gives, and how good it was when it was made."""
    with Client(address, recovery=ONE_SHOT) as client:
        model = client.models.get(name, version)
    print_facts(_facts(model))
    tables = kept_figures(model.provenance)
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
    click.echo(f"{read.manifest.label}: {_EXACTNESS[runner.batch_exactness]}{detail}")


models.add_command(import_model)


def _facts(model: ModelInfo) -> list[tuple[str, str]]:
    facts = [
        ("model", model.label),
        ("description", model.description),
        ("state", model.state),
        ("failure", model.failure),
        ("sha256", model.sha256),
        *[("input", _tensor(spec)) for spec in model.inputs],
        *[("output", _tensor(spec)) for spec in model.outputs],
        ("state size", f"{model.state_bytes} bytes per session"),
        (
            "batches",
            " ".join(filter(None, (_EXACTNESS[model.batch_exactness], model.batch_exactness_detail))),
        ),
        ("cadence", f"{model.time.cadence_s:g} s" if model.time.cadence_s else ""),
        ("missing values", model.time.missing),
        *_time_facts(model.time),
        ("device", model.device),
        ("loaded at", clock(model.loaded_at)),
    ]
    return [(name, value) for name, value in facts if value]


def _time_facts(rules: TimeRules) -> list[tuple[str, str]]:
    calendar = f"{', '.join(rules.calendar)} ({rules.time_zone})" if rules.calendar else ""
    return [
        ("gaps", f"filled up to {rules.max_gap_steps} steps" if rules.max_gap_steps else ""),
        ("out of order", "dropped" if rules.out_of_order == "drop" else ""),
        ("calendar", calendar),
    ]


def _tensor(spec: TensorSpec) -> str:
    parts = [f"{spec.name}: {spec.dtype} {format_shape(spec.step_shape)}"]
    if spec.features:
        units = spec.units or ("",) * len(spec.features)
        parts.append(", ".join(f"{f} {u}".strip() for f, u in zip(spec.features, units, strict=False)))
    if spec.horizon_steps:
        parts.append(f"{spec.horizon_steps[0]} to {spec.horizon_steps[-1]} steps ahead")
    if spec.quantile_levels:
        parts.append("quantiles " + ", ".join(f"{q:g}" for q in spec.quantile_levels))
    return "; ".join(parts)


def _word(model: ModelInfo) -> str:
    return {"exact": "yes", "serial": "no, serial", "off": "no"}.get(model.batch_exactness, "")
