"""The flags of `tidegate models import`, most of them `NAME=VALUE` and given several times.

A flag that could not be read is wrong usage; whether its names are the graph's is looked at later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypedDict, TypeVar

import click
import numpy as np

from tidegate.errors import ConfigError
from tidegate.model.axes import ALL, AxisAnswers
from tidegate.model.importing import Answers, Initial
from tidegate.model.manifest import BATCH, TIME, Dim

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

Pairs = tuple[tuple[str, T], ...]
Callback = Callable[[click.Context, click.Parameter, tuple[str, ...]], Pairs[T]]


class Flags(TypedDict):
    """What the flags of a description arrive as."""

    name: str
    version: str
    description: str
    batching: Literal["when-exact", "always"]
    input: tuple[str, ...]
    state: Pairs[str]
    constant: Pairs[float]
    output: tuple[str, ...]
    initial: Pairs[Initial]
    dim: Pairs[Dim]
    batch_axis: Pairs[int | None]
    time_axis: Pairs[int | None]
    shape: Pairs[tuple[Dim, ...]]
    features: Pairs[tuple[str, ...]]
    units: Pairs[tuple[str, ...]]
    typical: Pairs[tuple[float, ...]]


def named(read: Callable[[str], T], *, or_all: bool = False) -> Callback[T]:
    """How click is to read flags of the form `NAME=VALUE`.

    Args:
        read: Makes a value of its text.
        or_all: A VALUE alone is allowed; it has the name `ALL`.
    """

    def callback(_: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> Pairs[T]:
        return tuple(split(text, str(parameter.metavar)) for text in texts)

    def split(text: str, expected: str) -> tuple[str, T]:
        name, equals, value = text.partition("=")
        if not equals and or_all:
            name, value = ALL, text
        elif not (name and value):
            raise click.BadParameter(f"expected {expected}, got {text!r}")
        try:
            return name, read(value)
        except (ValueError, OSError) as error:
            raise click.BadParameter(f"expected {expected}, got {text!r}: {error}") from error

    return callback


def read_number(text: str) -> float:
    """A number."""
    return float(text)


def read_names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(text.split(","))


def read_range(text: str) -> tuple[float, ...]:
    """The least and the greatest value."""
    low, high = (float(part) for part in text.split(","))
    return low, high


def read_axis(text: str) -> int | None:
    """Position of an axis, or `none`."""
    return None if text == "none" else int(text)


def read_dim(text: str) -> Dim:
    """A mark or a size."""
    if text == BATCH:
        return "batch"
    if text == TIME:
        return "time"
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"expected batch, time or a size, got {text!r}")
    return int(text)


def read_shape(text: str) -> tuple[Dim, ...]:
    """Marks and sizes with commas between them."""
    return tuple(read_dim(part) for part in text.split(","))


def read_initial(text: str) -> Initial:
    """`zeros`, a number, or the array of a .npy file."""
    if text == "zeros":
        return "zeros"
    if text.endswith(".npy"):
        with Path(text).open("rb") as file:
            array: Initial = np.lib.format.read_array(file, allow_pickle=False)
        return array
    return float(text)


def import_flags(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command the flags of a description; they arrive as `Flags` has them."""
    for flag, callback, metavar, text in reversed(_FLAGS):
        command = click.option(flag, callback=callback, metavar=metavar, multiple=True, help=text)(command)
    return command


_FLAGS: tuple[tuple[str, Callback[Any] | None, str, str], ...] = (
    ("--input", None, "NAME", "Input that clients send at every step."),
    ("--state", named(str), "IN=OUT", "Carried: IN takes what OUT gave at the step before."),
    ("--constant", named(read_number), "IN=VALUE", "Input that is always the same, such as a sample rate."),
    ("--output", None, "NAME", "Output that clients get. Default: all that are not a state's."),
    (
        "--initial",
        named(read_initial, or_all=True),
        "[IN=]zeros|NUMBER|FILE.npy",
        "Where a state starts in a new session; without IN=, all of them.",
    ),
    (
        "--dim",
        named(read_dim),
        "DIM=batch|time|SIZE",
        "What the graph's free dimension DIM is, in every tensor.",
    ),
    (
        "--batch-axis",
        named(read_axis, or_all=True),
        "[NAME=]AXIS|none",
        "Batch axis of a tensor; without NAME=, of all.",
    ),
    (
        "--time-axis",
        named(read_axis, or_all=True),
        "[NAME=]AXIS|none",
        "Time axis of an input or output; without NAME=, of all.",
    ),
    (
        "--shape",
        named(read_shape),
        "NAME=DIM,DIM,…",
        "The whole shape of a tensor: batch, time or a size for each axis.",
    ),
    ("--features", named(read_names), "NAME=A,B,…", "Names of the elements of a last axis."),
    ("--units", named(read_names), "NAME=A,B,…", "Units of the elements of a last axis."),
    ("--typical", named(read_range), "NAME=LOW,HIGH", "Range of an input's values; the probe draws from it."),
)


def answers_of(flags: Flags) -> Answers:
    """What the flags say of the graph.

    Raises:
        ConfigError: Something is said twice.
    """
    labels: dict[str, dict[str, object]] = {}
    for key, pairs in (
        ("features", _by_name("--features", flags["features"])),
        ("units", _by_name("--units", flags["units"])),
        ("typical", _by_name("--typical", flags["typical"])),
    ):
        for name, value in pairs.items():
            labels.setdefault(name, {})[key] = value
    return Answers(
        inputs=flags["input"],
        states=_by_name("--state", flags["state"]),
        constants=_by_name("--constant", flags["constant"]),
        outputs=flags["output"],
        axes=AxisAnswers(
            shapes=_by_name("--shape", flags["shape"]),
            batch=_by_name("--batch-axis", flags["batch_axis"]),
            time=_by_name("--time-axis", flags["time_axis"]),
            dims=_by_name("--dim", flags["dim"]),
        ),
        initial=_by_name("--initial", flags["initial"]),
        labels=labels,
        manifest={
            "name": flags["name"],
            "version": flags["version"],
            "description": flags["description"],
            "batching": flags["batching"],
        },
    )


def _by_name(flag: str, pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    found: dict[str, T] = {}
    for name, value in pairs:
        if name in found:
            raise ConfigError(f"{flag} {name}: given twice" if name else f"{flag}: given twice for all")
        found[name] = value
    return found
