"""Which rows count, and what errors are measured in.

A forecast counts where what it speaks of lies in the split: the first ones are made at the row before the
split, as the next value after it is its first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np

from tidegate.errors import ConfigError, InvalidRequest
from tidegate.evaluation.series import Series
from tidegate.model.manifest import Manifest
from tidegate.model.parsing import parse_time
from tidegate.tensor import Array


@dataclass(frozen=True)
class Split:
    """Rows whose values are to be forecast.

    Attributes:
        start: The first of them.
        stop: The first behind them.
    """

    start: int
    stop: int

    @property
    def origins(self) -> range:
        """Rows that forecasts are made at; those near the end see less ahead."""
        return range(max(0, self.start - 1), self.stop - 1)


@dataclass(frozen=True)
class Unit:
    """What errors of several targets are measured in, so that they can be averaged.

    Attributes:
        std: Population standard deviation of each target, [M].
        source: Of which rows, for people.
    """

    std: Array
    source: str


def find_split(series: Series, first: datetime | None, until: datetime | None) -> Split:
    """The rows from one time until just before another; None is the begin or the end of the file.

    Raises:
        InvalidRequest: There are no such rows, or only the file's first, which no forecast was made for.
    """
    start = 0 if first is None else series.rows_before(first)
    stop = series.num_rows if until is None else series.rows_before(until)
    split = Split(start, stop)
    if not split.origins:
        asked = f"{'the begin' if first is None else first} until {'the end' if until is None else until}"
        span = f"{series.times[0]} until {series.times[-1]}" if series.times else f"{series.num_rows} rows"
        raise InvalidRequest(f"split: expected rows from {asked} in {series.source}, which has {span}")
    return split


def num_not_held_out(manifest: Manifest, series: Series, split: Split) -> int:
    """Rows of a split that the package was trained or chosen on; 0 where nothing tells, as for another file."""
    test_from = recipe_time(manifest, "test_from")
    if test_from is None or series.sha256 != manifest.provenance.get("data_sha256"):
        return 0
    return max(0, min(split.stop, series.rows_before(test_from)) - split.start)


def recipe_time(manifest: Manifest, key: str) -> datetime | None:
    """A time of the recipe's `[data]`, which a package made by `tidegate train` keeps; None: it has none.

    Raises:
        ConfigError: It is no time.
    """
    found = _of_recipe(manifest, "data", key)
    # TOML has times of its own, and a manifest may be written by hand.
    text = found.isoformat() if isinstance(found, date) else found
    try:
        return parse_time(text, manifest.time.zone) if isinstance(text, str) else None
    except InvalidRequest as error:
        raise ConfigError(f"{manifest.label}: provenance.recipe.data.{key}: {error}") from None


def recipe_number(manifest: Manifest, table: str, key: str) -> int | None:
    """A whole number above 0 of the recipe that the package keeps; None: it has none."""
    value = _of_recipe(manifest, table, key)
    return value if isinstance(value, int) and value > 0 else None


def recipe_file(manifest: Manifest) -> str | None:
    """The recipe's data file, as the recipe has it; None: there is no recipe."""
    name = _of_recipe(manifest, "data", "file")
    return name if isinstance(name, str) else None


def _of_recipe(manifest: Manifest, table: str, key: str) -> object:
    # Where a package comes from is free text as far as its manifest goes.
    found: object = manifest.provenance.get("recipe")
    for name in (table, key):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def find_unit(manifest: Manifest, series: Series, split: Split) -> Unit:
    """The standard deviations of the training rows, where the recipe says which they are.

    Otherwise those of the rows before the split or, where there are none, of the split itself.
    """
    trained_until = recipe_time(manifest, "validation_from")
    if series.sha256 == manifest.provenance.get("data_sha256") and trained_until is not None:
        return Unit(_std(series.truth[: series.rows_before(trained_until)]), "training rows")
    kept = manifest.provenance.get("target_std")
    stds = [kept.get(target) for target in series.targets] if isinstance(kept, dict) else [None]
    if all(isinstance(std, int | float) and 0 < std < math.inf for std in stds):
        return Unit(np.array(stds, np.float64), "training rows")
    before = np.isfinite(series.truth[: split.start]).sum(0)
    if (before > 1).all():
        return Unit(_std(series.truth[: split.start]), "rows before the split")
    return Unit(_std(series.truth[split.start : split.stop]), "rows of the split")


def _std(truth: Array) -> Array:
    """Never 0: a column that does not move is measured in its own unit."""
    measured = np.isfinite(truth)
    count = np.maximum(1, measured.sum(0))
    mean = np.where(measured, truth, 0).sum(0) / count
    std = np.sqrt(np.where(measured, np.square(truth - mean), 0).sum(0) / count)
    return np.where(std > 0, std, 1.0)
