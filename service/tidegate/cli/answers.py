"""The file of answers: one row per input row, columns named from the model's outputs."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import UnsupportedOperation
from itertools import product
from typing import IO

import numpy as np

from tidegate.client import TensorSpec
from tidegate.tensor import Array


def answer_columns(spec: TensorSpec) -> list[str]:
    """Names for the elements of one step of an output, in C order.

    A single number is called by the output's name; otherwise the elements are told apart by horizon
    (`h4`), quantile (`q0.1`), feature name or, where the manifest says nothing, position.
    """
    return ["_".join([spec.name, *labels]) for labels in product(*_axis_labels(spec))]


def _axis_labels(spec: TensorSpec) -> list[list[str]]:
    known = [f"h{h}" for h in spec.horizon_steps], [f"q{q:g}" for q in spec.quantile_levels]
    unused = [labels for labels in (list(spec.features), *known) if len(labels) > 1]
    axes: list[list[str]] = []
    # From the last axis on: quantiles stand behind horizons, and horizons behind what is predicted.
    for length in reversed(spec.step_shape):
        if length == 1:
            continue
        fits = bool(unused) and len(unused[-1]) == length
        axes.insert(0, unused.pop() if fits else [str(i) for i in range(length)])
    return axes


@dataclass(frozen=True)
class AnswerLayout:
    """What the columns of a file of answers are.

    Attributes:
        outputs: The model's outputs.
        time_column: Name of the column that is carried over; None for an input without one.
    """

    outputs: Sequence[TensorSpec]
    time_column: str | None

    @property
    def columns(self) -> list[str]:
        """The header."""
        time = [] if self.time_column is None else [self.time_column]
        return time + [name for spec in self.outputs for name in answer_columns(spec)]


class AnswerFile:
    """Writes answers as they come; a row that was skipped stays empty behind its time."""

    def __init__(self, file: IO[str], layout: AnswerLayout, *, has_header: bool = False) -> None:
        """Write the header, unless it is there.

        Args:
            file: Where to; the caller opened it with `newline=""` and closes it.
            layout: What the columns are.
            has_header: The file is continued.
        """
        self._file = file
        self._outputs = layout.outputs
        self._has_time = layout.time_column is not None
        self._writer = csv.writer(file, lineterminator="\n")
        self._empty = [""] * (len(layout.columns) - self._has_time)
        if not has_header:
            # Out at once: a file with a header, and nothing else, says that steps may have been sent.
            self._writer.writerow(layout.columns)
            self._file.flush()

    def write(self, times: Sequence[str], answers: Mapping[str, Array]) -> None:
        """Write the answers of several rows.

        Args:
            times: The rows' stamps, as the input has them.
            answers: Every output by name, shape (rows, step_shape...).
        """
        # numpy spells a float32 with as many digits as tell it apart, and no more.
        parts = [answers[spec.name].reshape(len(times), -1).astype(str) for spec in self._outputs]
        for time, row in zip(times, np.concatenate(parts, axis=1).tolist(), strict=True):
            self._writer.writerow([time, *row] if self._has_time else row)
        self._file.flush()

    def write_skipped(self, time: str) -> None:
        """Write a row without answers."""
        self._writer.writerow([time, *self._empty] if self._has_time else self._empty)
        self._file.flush()  # who feeds a pipe row by row may wait for this line

    def sync(self) -> None:
        """Return once everything written is on the disk, where it goes to one."""
        self._file.flush()
        try:
            os.fsync(self._file.fileno())
        except (UnsupportedOperation, OSError):
            # A pipe or a terminal has nothing to sync.
            return
