"""What is told of a model, whether a server serves it or its package lies in a folder: names and values, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from tidegate.cli.connection import clock
from tidegate.client.signature import BatchExactness, ModelInfo
from tidegate.model.manifest import Manifest
from tidegate.model.package import ModelPackage
from tidegate.model.time_rules import TimeRules
from tidegate.tensor import DType, format_shape

EXACTNESS = {
    "exact": "exact: answers are bit-identical alone and batched",
    "serial": "not exact, so run one row and one step at a time",
    "off": "not exact, batched all the same because its manifest asks for it",
    "unspecified": "",
}


class _Tensor(Protocol):
    """An input or output, as a manifest and the client know it."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> DType: ...
    @property
    def step_shape(self) -> tuple[int, ...]: ...
    @property
    def features(self) -> tuple[str, ...]: ...
    @property
    def units(self) -> tuple[str, ...]: ...


class _Output(_Tensor, Protocol):
    @property
    def horizon_steps(self) -> tuple[int, ...]: ...
    @property
    def quantile_levels(self) -> tuple[float, ...]: ...


Facts = Iterator[tuple[str, str]]


def served_facts(model: ModelInfo) -> Facts:
    """What a server says of a version."""
    found = (
        ("model", model.label),
        ("description", model.description),
        ("state", model.state),
        ("failure", model.failure),
        ("sha256", model.sha256),
        *_tensors(model.inputs, model.outputs),
        ("state size", f"{model.state_bytes} bytes per session"),
        (
            "batches",
            " ".join(filter(None, (EXACTNESS[model.batch_exactness], model.batch_exactness_detail))),
        ),
        *_time(model.time),
        ("device", model.device),
        ("loaded at", clock(model.loaded_at)),
    )
    yield from ((name, value) for name, value in found if value)


def package_facts(package: ModelPackage) -> Facts:
    """What a package says of itself; nothing of it is run."""
    manifest = package.manifest
    found = (
        ("model", manifest.label),
        ("description", manifest.description),
        ("package", str(package.path)),
        ("sha256", manifest.sha256),
        *_tensors(manifest.inputs, manifest.outputs),
        ("state size", f"{sum(s.nbytes for s in package.initial_states)} bytes per session"),
        ("batches", EXACTNESS[_exactness(manifest)]),
        *_time(manifest.time),
    )
    yield from ((name, value) for name, value in found if value)


def _exactness(manifest: Manifest) -> BatchExactness:
    """As the probe found it when the package was written."""
    if manifest.batch_exact is None:
        return "unspecified"
    if manifest.batch_exact:
        return "exact"
    return "off" if manifest.batching == "always" else "serial"


def _tensors(inputs: Sequence[_Tensor], outputs: Sequence[_Output]) -> Facts:
    yield from (("input", "; ".join(_parts(spec))) for spec in inputs)
    yield from (("output", "; ".join((*_parts(spec), *_looks_ahead(spec)))) for spec in outputs)


def _parts(spec: _Tensor) -> Iterator[str]:
    yield f"{spec.name}: {spec.dtype} {format_shape(spec.step_shape)}"
    if spec.features:
        units = spec.units or ("",) * len(spec.features)
        yield ", ".join(f"{f} {u}".strip() for f, u in zip(spec.features, units, strict=False))


def _looks_ahead(spec: _Output) -> Iterator[str]:
    if spec.horizon_steps:
        yield f"{spec.horizon_steps[0]} to {spec.horizon_steps[-1]} steps ahead"
    if spec.quantile_levels:
        yield "quantiles " + ", ".join(f"{q:g}" for q in spec.quantile_levels)


def _time(rules: TimeRules) -> Facts:
    yield "cadence", f"{rules.cadence_s:g} s" if rules.cadence_s else ""
    yield "missing values", rules.missing
    yield "gaps", f"filled up to {rules.max_gap_steps} steps" if rules.max_gap_steps else ""
    yield "out of order", "dropped" if rules.out_of_order == "drop" else ""
    yield "calendar", f"{', '.join(rules.calendar)} ({rules.time_zone})" if rules.calendar else ""
