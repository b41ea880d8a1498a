"""From an ONNX graph's signature and what its owner says of it to a manifest.

A graph tells names, types and sizes. Which tensors are carried, which axis is the batch and which the
time, where a state starts and what stays constant stands nowhere in it; a name, an order or a rank that
suggests it is no proof. So each of these is said by whoever imports the graph, and what has not been said
is asked for, all at once.

The questions name flags of `tidegate models import`, which alone calls this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import ValidationError

from tidegate.config import first_problem
from tidegate.errors import ConfigError, PackageError
from tidegate.model.axes import ALL, Axes, AxisAnswers
from tidegate.model.manifest import Dim, InitialFile, InitialValue, Manifest
from tidegate.model.package import content_hash, npy_bytes
from tidegate.model.signature import GraphTensor, Signature
from tidegate.tensor import Array

Initial = Literal["zeros"] | float | Array


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the owner of a graph says of it.

    Attributes:
        inputs: What clients send at every step.
        states: Name of the input to name of the output whose value goes there at the next step.
        constants: Values of inputs that never change.
        outputs: What clients get; empty: every output that is not a state's.
        axes: Batch and time axes, and sizes of free dimensions.
        initial: Per state input, or `ALL`, where a new session starts; an array is of one session.
        labels: Per input or output, further keys of its manifest entry: `features`, `units`, `typical`.
        manifest: Keys of the manifest that are copied: `name`, `version`, ...
    """

    inputs: tuple[str, ...] = ()
    states: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    axes: AxisAnswers = field(default_factory=AxisAnswers)
    initial: Mapping[str, Initial] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    manifest: Mapping[str, object]


@dataclass(frozen=True)
class Draft:
    """A manifest that nothing has been run with yet, and what goes beside it.

    Attributes:
        manifest: Complete, with the hash of what goes beside it.
        files: Initial states by file name.
        left_out: Outputs of the graph that nobody gets.
    """

    manifest: Manifest
    files: Mapping[str, bytes]
    left_out: tuple[str, ...]


def draft_manifest(signature: Signature, onnx: bytes, answers: Answers) -> Draft:
    """Describe a graph.

    Args:
        signature: Of the graph.
        onnx: Its bytes, for the hash.
        answers: What its owner says.

    Raises:
        ConfigError: Something has not been said, or names what the graph does not have; the text lists
            all of it with the flags to give.
        PackageError: What was said contradicts itself.
    """
    _check_names(signature, answers)
    outputs = answers.outputs or tuple(n for n in signature.outputs if n not in answers.states.values())
    axes = _axes(signature, answers, outputs)
    questions = "".join(f"\n  {q}" for q in _questions(signature, answers, outputs, axes))
    if questions:
        raise ConfigError(f"the graph does not tell everything; give also{questions}")
    initial, files = _initial_states(answers)
    manifest = _manifest(signature, answers, outputs, axes.shapes, initial) | {
        "sha256": content_hash(onnx, files)
    }
    try:
        complete = Manifest.model_validate(manifest)
    except ValidationError as error:
        raise PackageError(f"{manifest['name']}/{manifest['version']}: {first_problem(error)}") from error
    gives = {*outputs, *answers.states.values()}
    return Draft(complete, files, tuple(n for n in signature.outputs if n not in gives))


def _axes(signature: Signature, answers: Answers, outputs: Iterable[str]) -> Axes:
    axes = Axes(answers.axes)
    unknown = _without_role(signature, answers)
    for name, tensor in signature.inputs.items():
        # A scalar is most likely a constant: its shape is asked for once it is known not to be.
        if name not in answers.constants and not (name in unknown and not tensor.dims):
            axes.resolve(tensor, is_timed=name not in answers.states)
    for name in outputs:
        axes.resolve(signature.outputs[name], is_timed=True)
    return axes


def _check_names(signature: Signature, answers: Answers) -> None:
    tensors = {**signature.inputs, **signature.outputs}
    said: list[tuple[str, str, Iterable[str], Mapping[str, GraphTensor]]] = [
        ("--input", "input", answers.inputs, signature.inputs),
        ("--state", "input", answers.states, signature.inputs),
        ("--state", "output", answers.states.values(), signature.outputs),
        ("--constant", "input", answers.constants, signature.inputs),
        ("--output", "output", answers.outputs, signature.outputs),
        ("--features, --units or --typical", "input or output", answers.labels, tensors),
        *((flag, "input or output", names, tensors) for flag, names in answers.axes.named()),
    ]
    wrong = [
        f"{flag}: the graph has no {kind} {name!r}; it has {', '.join(found)}"
        for flag, kind, names, found in said
        for name in names
        if name != ALL and name not in found
    ]
    wrong += [
        f"--initial: {name!r} is no state: no --state {name}=OUTPUT is given"
        for name in answers.initial
        if name != ALL and name not in answers.states
    ]
    wrong += [
        f"{t.name}: the graph says {t.type_name}, which cannot be served"
        for t in tensors.values()
        if t.dtype is None
    ]
    if wrong:
        raise ConfigError("\n  ".join(wrong))


def _questions(signature: Signature, answers: Answers, outputs: tuple[str, ...], axes: Axes) -> Iterator[str]:
    """What has still to be said, each with the flag to give."""
    unknown = _without_role(signature, answers)
    if unknown:
        flags = "\n  ".join(f"--input {n} | --state {n}=OUTPUT | --constant {n}=VALUE" for n in unknown)
        yield f"{flags}\n      an input is sent at every step, carried from step to step, or always the same"
    if not outputs:
        yield "--output NAME\n      what clients get; a state's output may be that too"
    yield from axes.questions()
    if ALL in answers.initial:
        return
    starts = [n for n in answers.states if n not in answers.initial]
    if unknown or len(starts) == len(answers.states) > 0:
        yield "--initial zeros|NUMBER|FILE.npy\n      where all states of a new session start; STATE=… tells it of one"
    else:
        yield from (
            f"--initial {n}=zeros|NUMBER|FILE.npy\n      where state {n!r} of a new session starts"
            for n in starts
        )


def _without_role(signature: Signature, answers: Answers) -> list[str]:
    """Inputs of which nobody has said what they are."""
    known = {*answers.inputs, *answers.states, *answers.constants}
    return [name for name in signature.inputs if name not in known]


def _initial_states(answers: Answers) -> tuple[dict[str, object], dict[str, bytes]]:
    """Each state's `initial`, and the files that they name."""
    initial: dict[str, object] = {}
    files: dict[str, bytes] = {}
    for position, name in enumerate(answers.states):
        value = answers.initial.get(name, answers.initial.get(ALL, "zeros"))
        if isinstance(value, str):
            initial[name] = value
        elif isinstance(value, float):
            initial[name] = InitialValue(value=value)
        else:
            file = f"initial-{position}.npy"
            initial[name], files[file] = InitialFile(file=file), npy_bytes(value)
    return initial, files


def _manifest(
    signature: Signature,
    answers: Answers,
    outputs: Iterable[str],
    shapes: Mapping[str, tuple[Dim, ...]],
    initial: Mapping[str, object],
) -> dict[str, object]:
    def tensor(found: GraphTensor) -> dict[str, object]:
        return {"dtype": found.dtype, "shape": shapes[found.name]}

    def labelled(found: GraphTensor) -> dict[str, object]:
        return {"name": found.name, **tensor(found), **answers.labels.get(found.name, {})}

    return {
        **answers.manifest,
        "inputs": [labelled(signature.inputs[n]) for n in answers.inputs],
        "outputs": [labelled(signature.outputs[n]) for n in outputs],
        "states": [
            {
                "input_name": name,
                "output_name": output,
                "initial": initial[name],
                **tensor(signature.inputs[name]),
            }
            for name, output in answers.states.items()
        ],
        "constants": [
            {
                "name": name,
                "dtype": signature.inputs[name].dtype,
                "shape": _constant_shape(signature.inputs[name]),
                "value": value,
            }
            for name, value in answers.constants.items()
        ],
    }


def _constant_shape(found: GraphTensor) -> tuple[int, ...]:
    """Where a size is free, one element is enough: the graph repeats a constant as it needs it."""
    return tuple(d if isinstance(d, int) else 1 for d in found.dims)
