"""A PyTorch module with carried state, exported as a model package.

The module is a pure function: `forward(*inputs, *states) -> (*outputs, *states_next)`, in the order of
the specs given here. Nothing is guessed about it. The graph is checked against the module (check.py)
before anything is written.

The exporter is PyTorch's TorchScript one: the newer one freezes the time axis of an LSTM to the
example's length without a word. Parameters become constants of the graph, which ONNX Runtime needs to
compute a row bit-identically alone and batched.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import nn

from tidegate.config import first_problem
from tidegate.errors import PackageError
from tidegate.model.forecast import ForecastRules
from tidegate.model.manifest import InitialFile, InputSpec, Manifest, OutputSpec, StatePair, TimeRules
from tidegate.model.package import (
    MODEL_FILE,
    ModelPackage,
    assemble_package,
    content_hash,
    npy_bytes,
    write_package,
)
from tidegate.runner.graph import Graph
from tidegate.runner.probe import probe
from tidegate.tensor import Array
from tidegate.training.carrying import with_unread_states
from tidegate.training.cells import RecurrentStack
from tidegate.training.check import check_cells, check_export

OPSET = 17
"""Oldest opset with LayerNormalization as one operator; ONNX Runtime has known it since 1.12."""

Measure = Callable[[ModelPackage], Mapping[str, Any]]

_EXAMPLE_BATCH, _EXAMPLE_STEPS = 2, 3
_PROBED_ROWS = 256
_PROBED_STEPS = 64


def export_package(
    module: nn.Module,
    *,
    repository: Path,
    name: str,
    version: str,
    inputs: Sequence[InputSpec],
    outputs: Sequence[OutputSpec],
    states: Sequence[StatePair] = (),
    initial_states: Mapping[str, Array] | None = None,
    examples: Mapping[str, Array] | None = None,
    time: TimeRules | None = None,
    forecast: ForecastRules | None = None,
    batching: Literal["when-exact", "always"] = "when-exact",
    description: str = "",
    provenance: Mapping[str, Any] | None = None,
    measure: Measure | None = None,
) -> Path:
    """Export a module, check the graph against it and write the package.

    Args:
        module: Takes inputs, then states; gives outputs, then states, in the specs' order. It is exported
            in evaluation mode and left in the mode it was in.
        repository: The package goes to `repository/name/version`.
        name: Of the model.
        version: A whole number from 1 on.
        inputs: What a client sends at every step, with batch and time axes marked.
        outputs: What it gets.
        states: What is carried from step to step.
        initial_states: For pairs whose `initial` names a file: by input name, an array of `step_shape`.
        examples: By input or state name, values to check with where normal ones make no sense, [N, step_shape].
        time: How a series becomes steps.
        forecast: How coming steps are forecast; `carry_last_answers` makes the states that it needs.
        batching: See the manifest.
        description: One line for people.
        provenance: Where the model comes from: plain values, lists and dicts.
        measure: Called with the checked package before it is written; what it gives joins the provenance.

    Returns:
        Folder of the package.

    Raises:
        PackageError: The specs contradict each other, the module cannot be exported, the graph does not
            compute what the module does, or the version exists with other bytes.
    """
    files = _initial_files(states, initial_states or {})
    draft = _draft(
        name=name,
        version=version,
        description=description,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        states=tuple(states),
        time=time or TimeRules(),
        forecast=forecast,
        batching=batching,
        provenance=dict(provenance or {}),
    )
    package = _export_checked(module, draft, examples or {}, files)
    return write_package(repository, _measured(package, measure), package.onnx, files)


def export_graph(module: nn.Module, manifest: Manifest) -> bytes:
    """The module as an ONNX graph with the manifest's names and free axes; not checked.

    Raises:
        PackageError: PyTorch cannot export the module.
    """
    taken = [(i.name, i) for i in manifest.inputs] + [(s.input_name, s) for s in manifest.states]
    given = [(o.name, o) for o in manifest.outputs] + [(s.output_name, s) for s in manifest.states]
    arguments = tuple(
        torch.ones(spec.graph_shape(_EXAMPLE_BATCH, _EXAMPLE_STEPS), dtype=getattr(torch, spec.dtype))
        for _, spec in taken
    )
    free_axes = {
        name: {axis: mark for axis, mark in enumerate(spec.shape) if isinstance(mark, str)}
        for name, spec in (*taken, *given)
    }
    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            # They are about the older exporter and about shapes seen while tracing: check_export's matter.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                arguments,
                target := Path(folder) / MODEL_FILE,
                input_names=[name for name, _ in taken],
                output_names=[name for name, _ in given],
                dynamic_axes=free_axes,
                opset_version=OPSET,
                dynamo=False,
            )
            return with_unread_states(target.read_bytes(), manifest)
    except Exception as error:  # whatever the module or the exporter raises, the caller learns which model
        raise PackageError(f"{manifest.label}: PyTorch cannot export the module: {error}") from error


def _export_checked(
    module: nn.Module, manifest: Manifest, examples: Mapping[str, Array], files: Mapping[str, bytes]
) -> ModelPackage:
    """The package, whose graph is proved to compute what the module does, and probed."""
    was_training = module.training
    module.eval()
    try:
        for part in module.modules():
            if isinstance(part, RecurrentStack):
                check_cells(part)
        onnx = export_graph(module, manifest)
        package = assemble_package(Path(manifest.label), manifest, onnx, files)
        graph = Graph(package, device="cpu", threads=1)
        check_export(graph, module, examples=examples)
    finally:
        module.train(was_training)
    exact = probe(graph, max_rows=_PROBED_ROWS, max_steps=_PROBED_STEPS).exact
    said = manifest.model_copy(update={"sha256": content_hash(onnx, files), "batch_exact": exact})
    return replace(package, manifest=said)


def _measured(package: ModelPackage, measure: Measure | None) -> Manifest:
    """The manifest with what was measured."""
    manifest = package.manifest
    found = {} if measure is None else measure(package)
    return manifest.model_copy(update={"provenance": {**manifest.provenance, **found}})


def _draft(**fields: object) -> Manifest:
    """The manifest, before there are bytes to hash."""
    try:
        return Manifest.model_validate({**fields, "sha256": "0" * 64})
    except ValidationError as error:
        raise PackageError(f"{fields['name']}/{fields['version']}: {first_problem(error)}") from error


def _initial_files(states: Sequence[StatePair], values: Mapping[str, Array]) -> dict[str, bytes]:
    named = {s.input_name: s.initial.file for s in states if isinstance(s.initial, InitialFile)}
    if set(named) != set(values):
        raise PackageError(
            f"initial_states: expected values for {sorted(named)}, whose pairs name a file, got {sorted(values)}"
        )
    return {file: npy_bytes(values[name]) for name, file in named.items()}
