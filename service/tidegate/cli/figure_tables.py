"""Figures as tables for people; on a pipe as Markdown, so that they go into a page as they are.

Takes figures as a manifest has them: each measure a table from the number of steps ahead to a number. Measures
that it does not know are shown under their own names.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.table import Table

_HEADINGS = {
    "mse": "MSE",
    "mae": "MAE",
    "mse_repeat_last": "MSE, repeat last",
    "mae_repeat_last": "MAE, repeat last",
    "mse_same_season": "MSE, same season",
    "mae_same_season": "MAE, same season",
    "pinball": "pinball loss",
    "interval_coverage": "in the interval",
    "interval_width": "its width",
}
"""In the order in which they are shown; the others follow."""

_SHARES = ("interval_coverage",)


class FigureTable(NamedTuple):
    """A table of texts; all columns but those of words stand to the right."""

    title: str
    headings: list[str]
    rows: list[list[str]]
    num_words: int = 0
    """Columns from the left that hold words."""


def measures_of(part: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The tables of a part that go from steps ahead to numbers."""
    return {
        name: values
        for name, values in part.items()
        if isinstance(values, dict) and values and all(str(step).isdecimal() for step in values)
    }


def by_steps(title: str, part: Mapping[str, Any]) -> FigureTable:
    """A row for each number of steps ahead, a column for each measure."""
    measures = measures_of(part)
    names = _ordered(measures)
    steps = sorted({int(step) for values in measures.values() for step in values})
    rows = [[str(step), *(_text(name, measures[name].get(str(step))) for name in names)] for step in steps]
    return FigureTable(title, ["steps ahead", *(_HEADINGS.get(n, n.replace("_", " ")) for n in names)], rows)


def by_target(title: str, targets: Mapping[str, Mapping[str, Any]]) -> FigureTable:
    """A row for each target and number of steps ahead."""
    parts = {
        f"{name} ({target['unit']})" if target.get("unit") else name: by_steps("", target)
        for name, target in targets.items()
    }
    headings = next(iter(parts.values())).headings
    rows = [[name, *row] for name, part in parts.items() for row in part.rows]
    return FigureTable(title, ["target", *headings], rows, num_words=1)


def kept_figures(provenance: Mapping[str, Any]) -> list[FigureTable]:
    """The figures that a manifest keeps of each part of the data, as far as it keeps any."""
    metrics = provenance.get("metrics")
    parts = metrics if isinstance(metrics, dict) else {}
    tables = []
    for name, part in parts.items():
        if not isinstance(part, dict) or not measures_of(part):
            continue
        rows = f", from {part['from']} until {part['until']}" if {"from", "until"} <= part.keys() else ""
        unit = f", in {part['unit']}" if "unit" in part else ""
        tables.append(by_steps(f"Figures on the {name} rows{rows}{unit}", part))
        targets = part.get("targets")
        if isinstance(targets, dict) and targets:
            tables.append(by_target("The same in the units of the data", targets))
    return tables


def print_tables(tables: Iterable[FigureTable], *, err: bool = False) -> None:
    """Print tables with their titles, to stderr if `err`."""
    stream = sys.stderr if err else sys.stdout
    console = Console(file=stream) if stream.isatty() else None
    for table in tables:
        if console is None:
            click.echo(_markdown(table), err=err)
        else:
            console.print(_rich(table))


def _ordered(measures: Mapping[str, Any]) -> list[str]:
    known = [name for name in _HEADINGS if name in measures]
    return known + [name for name in measures if name not in _HEADINGS]


def _text(name: str, value: object) -> str:
    if not isinstance(value, int | float):
        return "–"
    if name in _SHARES:
        return f"{value:.1%}"
    if name == "windows" or (float(value).is_integer() and abs(value) >= 1000):
        return f"{value:.0f}"
    return f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.3g}"


def _markdown(table: FigureTable) -> str:
    rules = ["---" if i < table.num_words else "---:" for i in range(len(table.headings))]
    lines: list[Sequence[str]] = [table.headings, rules, *table.rows]
    return "\n".join([f"{table.title}\n", *(f"| {' | '.join(line)} |" for line in lines), ""])


def _rich(table: FigureTable) -> Table:
    made = Table(title=table.title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(table.headings):
        made.add_column(heading, justify="left" if number < table.num_words else "right")
    for row in table.rows:
        made.add_row(*row)
    return made
