"""The figures of several packages as one: their mean, and how far they spread.

For packages that differ in nothing but the seed of their training: one of them tells as much about its seed as
about its recipe.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tidegate.errors import InvalidRequest

SAME = ("data", "split", "point", "interval", "season_steps", "known_ahead", "unit")
"""What packages must have in common for a mean to mean anything; each has it of its own recipe and rules."""

MEASURED = ("up_to", "at", "at_most", "targets", "anomaly")
"""What is averaged."""

Combine = Callable[[Sequence[float]], float]


def joined_figures(packages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of one package as they are, or those of several in the same form.

    Args:
        packages: `json_figures` of each; at least one.

    Returns:
        For several: `model` names all of them, measures are means, `spread` has the standard deviations (of
        packages, n - 1 in the denominator) in the form of `up_to`, without the naive forecasts, which have none; and
        `packages` has the figures of each.

    Raises:
        InvalidRequest: They were not scored on the same rows, or do not forecast the same.
    """
    first = packages[0]
    if len(packages) == 1:
        return dict(first)
    for other in packages[1:]:
        _check_same(first, other)
    own = [_own_measures(figures["up_to"]) for figures in packages]
    return {
        "model": ", ".join(figures["model"] for figures in packages),
        **{name: first[name] for name in SAME},
        "rows_not_held_out": max(figures["rows_not_held_out"] for figures in packages),
        **{name: _combined([figures[name] for figures in packages], _mean) for name in MEASURED},
        "spread": _combined(own, statistics.stdev),
        "packages": [dict(figures) for figures in packages],
    }


def _check_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    for name in SAME:
        if one[name] != other[name]:
            raise InvalidRequest(
                f"{name}: expected {one[name]!r} as for {one['model']}, got {other[name]!r} for {other['model']}"
            )
    for name in MEASURED:
        if _form(one[name]) != _form(other[name]):
            raise InvalidRequest(
                f"{name}: expected {other['model']} to forecast the same targets, steps and quantiles as {one['model']}"
            )


def _form(part: object) -> object:
    """A part without its numbers."""
    if isinstance(part, dict):
        return {key: _form(value) for key, value in part.items()}
    if isinstance(part, list):
        return [_form(value) for value in part]
    return part if isinstance(part, str) else None


def _own_measures(up_to: Mapping[str, Any]) -> dict[str, Any]:
    naive = ("_repeat_last", "_same_season")
    return {name: steps for name, steps in up_to.items() if name != "windows" and not name.endswith(naive)}


def _combined(parts: Sequence[Any], combine: Combine) -> Any:
    """Parts of one form, number by number; None where one of them has no number."""
    first = parts[0]
    if isinstance(first, dict):
        return {key: _combined([part[key] for part in parts], combine) for key in first}
    if isinstance(first, list):
        return [_combined(values, combine) for values in zip(*parts, strict=True)]
    if isinstance(first, str):
        return first
    return None if any(part is None for part in parts) else combine(parts)


def _mean(numbers: Sequence[float]) -> float:
    """What is alike stays as it is: a count a whole number, a naive forecast's error to the last digit."""
    return numbers[0] if len(set(numbers)) == 1 else statistics.fmean(numbers)
