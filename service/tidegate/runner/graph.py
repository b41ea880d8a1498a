"""One ONNX graph, proved to be what its manifest says, behind one call in the wire's layout.

Outside, inputs and outputs are `[n, T, step_shape...]` whatever axes the graph uses, and states are in
the graph's own layout, because the arena gathers them in that layout anyway.

Not thread-safe: whoever owns the runner calls it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnxruntime as ort

from tidegate.errors import PackageError
from tidegate.model.manifest import ConstantInput, Manifest
from tidegate.model.package import ModelPackage
from tidegate.runner.ort import Device, make_session
from tidegate.runner.signature import check_signature, signature_of
from tidegate.tensor import Array, DType, format_shape


class Graph:
    """A loaded graph of a model package.

    Attributes:
        manifest: The package's manifest.
        device: Where it runs.
    """

    def __init__(self, package: ModelPackage, *, device: Device, threads: int) -> None:
        """Load the graph and check its signature.

        Raises:
            PackageError: ONNX Runtime refuses the graph, or it does not have the manifest's inputs,
                outputs and state pairs with their types and shapes.
        """
        self.manifest = package.manifest
        self.device = device
        self._session = make_session(package.onnx, device=device, threads=threads, label=self.manifest.label)
        check_signature(self.manifest, signature_of(self._session))
        self._constants = {c.name: _constant(c) for c in self.manifest.constants}
        self._input_axes = [(i.name, i.batch_axis, i.time_axis) for i in self.manifest.inputs]
        self._output_axes = [(o.batch_axis, o.time_axis) for o in self.manifest.outputs]
        self._state_names = [s.input_name for s in self.manifest.states]
        self._fetches = [o.name for o in self.manifest.outputs] + [
            s.output_name for s in self.manifest.states
        ]

    def run(self, inputs: Sequence[Array], states: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        """Run T steps of n rows.

        Args:
            inputs: One array per input of the manifest, `[n, T, step_shape...]`.
            states: One array per state pair, in the graph's layout.

        Returns:
            Outputs, `[n, T, step_shape...]` each, and the new states in the graph's layout.
        """
        feeds = self._feeds(inputs)
        feeds.update(zip(self._state_names, states, strict=True))
        results: list[Array] = self._session.run(self._fetches, feeds)
        outputs = [_from_graph(r, *axes) for r, axes in zip(results, self._output_axes, strict=False)]
        return outputs, results[len(outputs) :]

    def run_on_device(
        self, inputs: Sequence[Array], states: Sequence[ort.OrtValue]
    ) -> tuple[list[Array], list[ort.OrtValue]]:
        """As `run`, with states that are on the device and stay there."""
        binding = self._session.io_binding()
        for name, value in self._feeds(inputs).items():
            binding.bind_cpu_input(name, np.asarray(value, order="C"))
        for name, state in zip(self._state_names, states, strict=True):
            binding.bind_ortvalue_input(name, state)
        num_outputs = len(self._output_axes)
        kept = self._fetches[num_outputs:]
        given = [name for name in self._fetches[:num_outputs] if name not in kept]
        for name in given:
            binding.bind_output(name, "cpu")
        for name in kept:
            binding.bind_output(name, self.device)
        self._session.run_with_iobinding(binding)
        found: dict[str, ort.OrtValue] = dict(zip([*given, *kept], binding.get_outputs(), strict=True))
        outputs = [
            _from_graph(found[name].numpy(), *axes)
            for name, axes in zip(self._fetches, self._output_axes, strict=False)
        ]
        return outputs, [found[name] for name in kept]

    def observe(
        self, names: Collection[str], inputs: Sequence[Array], states: Sequence[Array]
    ) -> tuple[dict[str, Array], list[Array]]:
        """As `run`, for tensors of the graph's own in its own layout.

        Args:
            names: Inputs and outputs of the graph, of the manifest or not.
            inputs: As `run` takes them.
            states: As `run` takes them.

        Returns:
            The tensors by name, and the new states.
        """
        values = self._feeds(inputs)
        values.update(zip(self._state_names, states, strict=True))
        wanted = [name for name in names if name not in values]
        new_states = self._fetches[len(self._output_axes) :]
        results: list[Array] = self._session.run([*wanted, *new_states], values)
        values.update(zip(wanted, results, strict=False))
        return {name: values[name] for name in names}, results[len(wanted) :]

    def dry_run(self, initial_states: Sequence[Array]) -> None:
        """Run a few shapes on zeros and hold what comes back against the manifest.

        A time axis that an exporter has frozen, or a state that does not close, shows here.

        Args:
            initial_states: One array per state pair, shape `step_shape`.

        Raises:
            PackageError: An output or a state comes back with another shape or type, or not finite.
        """
        rows = (1, 3) if self.manifest.has_batch_axis else (1,)
        steps = (1, 4) if self.manifest.has_time_axis else (1,)
        for n in rows:
            for t in steps:
                self._dry_run_shape(initial_states, n, t)

    def _feeds(self, inputs: Sequence[Array]) -> dict[str, Array]:
        """Everything the graph takes but its states."""
        feeds = dict(self._constants)
        for (name, batch_axis, time_axis), value in zip(self._input_axes, inputs, strict=True):
            feeds[name] = _to_graph(value, batch_axis, time_axis)
        return feeds

    def _dry_run_shape(self, initial_states: Sequence[Array], n: int, t: int) -> None:
        manifest = self.manifest
        inputs = [np.zeros((n, t, *i.step_shape), i.dtype.numpy) for i in manifest.inputs]
        states = [
            np.ascontiguousarray(np.broadcast_to(_with_batch(s, p.batch_axis), p.graph_shape(n, 1)))
            for s, p in zip(initial_states, manifest.states, strict=True)
        ]
        try:
            outputs, new_states = self.run(inputs, states)
        except Exception as error:
            text = " ".join(str(error).split())
            raise PackageError(f"{manifest.label}: a run of {n} rows and {t} steps fails: {text}") from error
        for spec, output in zip(manifest.outputs, outputs, strict=True):
            _check_tensor(manifest, f"output {spec.name!r}", output, spec.dtype, (n, t, *spec.step_shape))
        for pair, state in zip(manifest.states, new_states, strict=True):
            what = f"state {pair.output_name!r}, which is carried to {pair.input_name!r},"
            _check_tensor(manifest, what, state, pair.dtype, pair.graph_shape(n, 1))
            if pair.dtype.is_float and not np.isfinite(state).all():
                raise PackageError(f"{manifest.label}: {what} is not finite after {t} steps of zeros")


def _to_graph(value: Array, batch_axis: int | None, time_axis: int | None) -> Array:
    if (batch_axis, time_axis) == (0, 1):
        return value
    if time_axis is None:
        value = value[:, 0]
        return value[0] if batch_axis is None else np.ascontiguousarray(np.moveaxis(value, 0, batch_axis))
    if batch_axis is None:
        return np.ascontiguousarray(np.moveaxis(value[0], 0, time_axis))
    return np.ascontiguousarray(np.moveaxis(value, (0, 1), (batch_axis, time_axis)))


def _from_graph(value: Array, batch_axis: int | None, time_axis: int | None) -> Array:
    if (batch_axis, time_axis) == (0, 1):
        return value
    if time_axis is None:
        value = value[None] if batch_axis is None else np.moveaxis(value, batch_axis, 0)
        return value[:, None]
    if batch_axis is None:
        return np.moveaxis(value, time_axis, 0)[None]
    return np.moveaxis(value, (batch_axis, time_axis), (0, 1))


def _with_batch(state: Array, batch_axis: int | None) -> Array:
    return state if batch_axis is None else np.expand_dims(state, batch_axis)


def _constant(spec: ConstantInput) -> Array:
    return np.full(spec.shape, spec.value, spec.dtype.numpy)


def _check_tensor(manifest: Manifest, what: str, value: Array, dtype: DType, shape: tuple[int, ...]) -> None:
    if value.shape != shape or value.dtype != dtype.numpy:
        raise PackageError(
            f"{manifest.label}: {what} expected {dtype} {format_shape(shape)}, "
            f"got {value.dtype} {format_shape(value.shape)}"
        )
