"""Reads the signature of a graph from ONNX Runtime, and holds a manifest against it.

What the runtime has inferred of an output's shape is there as well, which the file itself may not say.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnxruntime as ort

from tidegate.errors import PackageError
from tidegate.model.manifest import Dim, Manifest
from tidegate.model.signature import GraphTensor, Signature
from tidegate.runner.ort import make_session
from tidegate.tensor import DType, format_shape

_ORT_TYPES: dict[str, DType] = {
    "tensor(float)": DType.FLOAT32,
    "tensor(double)": DType.FLOAT64,
    "tensor(float16)": DType.FLOAT16,
    "tensor(bool)": DType.BOOL,
    **{f"tensor({d})": d for d in DType if "int" in d},
}


def read_signature(onnx: bytes, *, label: str) -> Signature:
    """The signature of an ONNX file.

    Args:
        onnx: Bytes of the file.
        label: What to call it in an error.

    Raises:
        PackageError: ONNX Runtime refuses the graph.
    """
    return signature_of(make_session(onnx, device="cpu", threads=1, label=label))


def signature_of(session: ort.InferenceSession) -> Signature:
    """The signature of a loaded graph."""
    inputs, outputs = ([_tensor(a) for a in found] for found in (session.get_inputs(), session.get_outputs()))
    return Signature({t.name: t for t in inputs}, {t.name: t for t in outputs})


def check_signature(manifest: Manifest, signature: Signature) -> None:
    """Hold a manifest against the graph beside it.

    Raises:
        PackageError: An input or output is missing on one side, or differs in type or shape.
    """
    takes: list[tuple[str, DType, Sequence[Dim]]] = [
        *((i.name, i.dtype, i.shape) for i in manifest.inputs),
        *((s.input_name, s.dtype, s.shape) for s in manifest.states),
        *((c.name, c.dtype, c.shape) for c in manifest.constants),
    ]
    gives: list[tuple[str, DType, Sequence[Dim]]] = [
        *((o.name, o.dtype, o.shape) for o in manifest.outputs),
        *((s.output_name, s.dtype, s.shape) for s in manifest.states),
    ]
    unnamed = sorted(signature.inputs.keys() - {name for name, _, _ in takes})
    if unnamed:
        raise PackageError(
            f"{manifest.label}: the graph also takes {unnamed[0]!r}, which the manifest does not name"
        )
    for kind, expected, found in (("input", takes, signature.inputs), ("output", gives, signature.outputs)):
        for name, dtype, shape in expected:
            if name not in found:
                names = ", ".join(sorted(found))
                raise PackageError(f"{manifest.label}: the graph has no {kind} {name!r}; it has {names}")
            _check_tensor(f"{manifest.label}: {kind} {name!r}", dtype, shape, found[name])


def _tensor(argument: ort.NodeArg) -> GraphTensor:
    return GraphTensor(argument.name, _ORT_TYPES.get(argument.type), argument.type, tuple(argument.shape))


def _check_tensor(what: str, dtype: DType, shape: Sequence[Dim], found: GraphTensor) -> None:
    if found.dtype is not dtype:
        raise PackageError(f"{what}: the manifest says {dtype}, the graph {found.type_name}")
    if not found.dims:
        return  # a scalar, or not told: the dry run shows which
    pairs = list(zip(shape, found.dims, strict=False))
    differ = any(
        isinstance(ours, int) and isinstance(theirs, int) and ours != theirs for ours, theirs in pairs
    )
    if differ or len(shape) != len(found.dims):
        raise PackageError(
            f"{what}: the manifest says {format_shape(shape)}, the graph {format_shape(found.dims)}"
        )
    for ours, theirs in pairs:
        if isinstance(ours, str) and isinstance(theirs, int):
            raise PackageError(
                f"{what}: the manifest marks the {ours} axis, the graph has it frozen at {theirs}"
            )
