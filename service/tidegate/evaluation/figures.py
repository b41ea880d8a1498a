"""An evaluation in plain numbers: for the manifest, and for programs.

In both a measure is a table from the number of steps ahead to a number, so that a manifest's `provenance.metrics`
can be shown by whoever knows nothing of how it was made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.evaluation.evaluation import Evaluation
from tidegate.evaluation.extracts import TAILS
from tidegate.tensor import Array

MANIFEST_DIGITS = 6


def manifest_figures(found: Evaluation) -> dict[str, Any]:
    """What a manifest keeps of one split, in six significant digits.

    `mse`, `mae` and so on are averaged up to so many steps ahead and over the targets, in standard deviations;
    under `targets` they are of one target, in its unit.
    """
    figures = {
        "from": split_edge(found, found.split.start),
        "until": split_edge(found, found.split.stop),
        "unit": f"standard deviations of the {found.unit.source}",
        "windows": {str(h): found.num_windows(h) for h in found.windows},
        **_by_steps(found.windows, found.up_to.overall(found.unit.std)),
        "targets": {
            name: {
                "unit": found.look.units[i],
                "std": float(found.unit.std[i]),
                **_by_steps(found.windows, found.up_to.of_target(i)),
            }
            for i, name in enumerate(found.look.targets)
        },
        **({} if found.anomalies is None else {"anomaly_above": _tails(found.anomalies.above)}),
    }
    return _rounded(figures)


def json_figures(found: Evaluation) -> dict[str, Any]:
    """Everything, for a program; what was never measured is None."""
    look, anomalies = found.look, found.anomalies
    at_most = {
        f"{level:g}": _numbers(found.horizons, found.at_most[:, q]) for q, level in enumerate(look.levels)
    }
    return {
        "model": found.label,
        "sha256": found.sha256,
        "data": {
            "file": found.series.source,
            "sha256": found.series.sha256,
            "rows": found.series.num_rows,
            "steps_filled": found.series.num_filled,
            "rows_dropped": found.series.num_dropped,
        },
        "split": {
            "from": split_edge(found, found.split.start),
            "until": split_edge(found, found.split.stop),
            "first_row": found.split.start,
            "rows": found.split.stop - found.split.start,
        },
        "rows_not_held_out": found.num_not_held_out,
        "point": f"quantile {look.levels[look.point]:g}" if look.levels else "the answer",
        "interval": [look.levels[0], look.levels[-1]] if len(look.levels) > 1 else None,
        "season_steps": found.season_steps or None,
        "known_ahead": list(found.known_ahead),
        "unit": f"standard deviations of the {found.unit.source}",
        "up_to": {
            "windows": {str(h): found.num_windows(h) for h in found.windows},
            **_by_steps(found.windows, found.up_to.overall(found.unit.std)),
        },
        "at": _by_steps(found.horizons, found.at.overall(found.unit.std)),
        "at_most": at_most,
        "targets": {
            name: {
                "unit": look.units[i],
                "std": float(found.unit.std[i]),
                "up_to": _by_steps(found.windows, found.up_to.of_target(i)),
                "at": _by_steps(found.horizons, found.at.of_target(i)),
            }
            for i, name in enumerate(look.targets)
        },
        "anomaly": None
        if anomalies is None
        else {
            "values": anomalies.num_values,
            "above": _tails(anomalies.above),
            "tenths": list(anomalies.counts),
        },
    }


def split_edge(found: Evaluation, row: int) -> str:
    """The time of a row in the model's time zone; its number where the file has no times."""
    times = found.series.times
    if not times:
        return f"row {row + 1}"
    if row == len(times):
        return "the end"
    return times[row].astimezone(found.series.zone).isoformat()


def _by_steps(steps: Sequence[int], means: Mapping[str, Array]) -> dict[str, dict[str, float | None]]:
    return {name: _numbers(steps, values) for name, values in means.items()}


def _numbers(steps: Sequence[int], values: Array) -> dict[str, float | None]:
    return {
        str(step): value if math.isfinite(value) else None
        for step, value in zip(steps, values.tolist(), strict=True)
    }


def _tails(above: Sequence[float]) -> dict[str, float]:
    return {f"{tail:g}": share for tail, share in zip(TAILS, above, strict=True)}


def _rounded(table: Mapping[str, Any]) -> dict[str, Any]:
    """Without what was never measured, because TOML has no null."""
    return {key: _rounded_value(value) for key, value in table.items() if value is not None}


def _rounded_value(value: Any) -> Any:
    if isinstance(value, dict):
        return _rounded(value)
    return float(f"{value:.{MANIFEST_DIGITS}g}") if isinstance(value, float) else value
