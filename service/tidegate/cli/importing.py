"""`tidegate models import`: a package from an ONNX file that comes from somewhere else.

What the file does not tell is said with flags, and asked for where it was not. Nothing is written before
the graph has run: its states close and stay finite, and the probe has found how it may be batched.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from tidegate.cli.connection import print_facts
from tidegate.cli.import_flags import Flags, answers_of, import_flags
from tidegate.cli.packages import into_repository
from tidegate.cli.verdict import verdict
from tidegate.errors import ConfigError, PackageError
from tidegate.model.importing import Draft, draft_manifest
from tidegate.model.manifest import InitialFile, InitialValue, StatePair, format_manifest
from tidegate.model.package import read_package, write_package
from tidegate.model.signature import Signature
from tidegate.model.specs import Shaped
from tidegate.tensor import format_shape

if TYPE_CHECKING:
    from tidegate.runner.runner import Runner

PROBED_SESSIONS = 256
"""Room in the arena while the graph is tried; batches are as wide as a server's."""


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--name", required=True, help="Name of the model.")
@click.option("--version", default="1", show_default=True, help="A whole number from 1 on.")
@click.option("--description", default="", help="One line for people.")
@into_repository
@import_flags
@click.option(
    "--batching",
    type=click.Choice(["when-exact", "always"]),
    default="when-exact",
    show_default=True,
    help="Batch what is bit-identical that way, or always; see docs/models.md.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and print the manifest; write nothing.")
def import_model(file: Path, models: Path, *, dry_run: bool, **flags: Unpack[Flags]) -> None:
    """Make a package from FILE, an ONNX graph whose state goes in and out as tensors.

    Names, types and sizes are read from the graph. What it does not tell is said with the flags below;
    what is still missing is listed with the flag to give. No tensors are ever paired by their names.
    """
    from tidegate.runner.runner import Runner, RunnerOptions
    from tidegate.runner.signature import read_signature

    onnx = file.read_bytes()
    signature = read_signature(onnx, label=str(file))
    try:
        draft = draft_manifest(signature, onnx, answers_of(flags))
    except ConfigError:
        print_facts(_graph_facts(signature), err=True)
        raise
    with tempfile.TemporaryDirectory() as folder:
        package = read_package(write_package(Path(folder), draft.manifest, onnx, draft.files))
        runner = Runner(package, RunnerOptions(max_sessions=PROBED_SESSIONS))
    print_facts([*_facts(draft), *verdict(runner)], err=True)
    _check_steps(runner)
    manifest = draft.manifest.model_copy(update={"batch_exact": runner.exactness.exact})
    if dry_run:
        click.echo(format_manifest(manifest), nl=False)
    else:
        click.echo(write_package(models, manifest, onnx, draft.files))


def _graph_facts(signature: Signature) -> Iterator[tuple[str, str]]:
    """What the graph tells of itself."""
    yield from (("takes", str(t)) for t in signature.inputs.values())
    yield from (("gives", str(t)) for t in signature.outputs.values())


def _check_steps(runner: Runner) -> None:
    if runner.exactness.looks_ahead and runner.manifest.batching != "always":
        raise PackageError(
            f"{runner.manifest.label}: several steps in one run give something else than the same steps one by one, "
            f"by up to {runner.exactness.steps_gap:.1g}: either a --state pair is wrong, or the graph looks ahead, as a "
            "bidirectional layer does, and cannot be stepped; see docs/models.md"
        )


def _facts(draft: Draft) -> Iterator[tuple[str, str]]:
    """What the manifest says, for the eye of whoever knows the model."""
    manifest = draft.manifest
    yield "model", manifest.label
    yield from (("input", f"{i.name}: {_shaped(i)}") for i in manifest.inputs)
    for state in manifest.states:
        yield "state", f"{state.output_name} → {state.input_name}: {_shaped(state)}, from {_start(state)}"
    yield from (
        ("constant", f"{c.name} = {c.value:g}: {c.dtype} {format_shape(c.shape)}") for c in manifest.constants
    )
    yield from (("output", f"{o.name}: {_shaped(o)}") for o in manifest.outputs)
    yield from (("left out", name) for name in draft.left_out)


def _shaped(spec: Shaped) -> str:
    return f"{spec.dtype} {format_shape(spec.shape)}"


def _start(state: StatePair) -> str:
    if isinstance(state.initial, InitialFile):
        return state.initial.file
    return f"{state.initial.value:g}" if isinstance(state.initial, InitialValue) else state.initial
