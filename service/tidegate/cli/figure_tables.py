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
    names = _ordered(measures_of(part))
    headings = ["steps ahead", *(_heading(name) for name in names)]
    return FigureTable(title, headings, _rows(part, names))


def by_measure(title: str, part: Mapping[str, Any]) -> FigureTable:
    """A row for each measure, a column for each number of steps ahead."""
    names = _ordered(measures_of(part))
    steps, *columns = zip(*_rows(part, names), strict=True)
    rows = [[_heading(name), *column] for name, column in zip(names, columns, strict=True)]
    return FigureTable(title, ["steps ahead", *steps], rows, num_words=1)


def by_target(title: str, targets: Mapping[str, Mapping[str, Any]]) -> FigureTable:
    """A row for each target and number of steps ahead."""
    names = _ordered({name: None for target in targets.values() for name in measures_of(target)})
    rows = []
    for target, part in targets.items():
        label = f"{target} ({part['unit']})" if part.get("unit") else target
        rows += [[label, *row] for row in _rows(part, names)]
    headings = ["target", "steps ahead", *(_heading(name) for name in names)]
    return FigureTable(title, headings, rows, num_words=1)


def of_anomalies(title: str, above: Mapping[str, Any]) -> FigureTable:
    """How often anomaly scores were above some values, and how often calibrated ones are."""
    rows = [
        [level, f"{share:.1%}", f"{1 - float(level):.0%}"]
        for level, share in above.items()
        if isinstance(share, int | float)
    ]
    return FigureTable(title, ["above", "found", "if calibrated"], rows)


def kept_figures(provenance: Mapping[str, Any]) -> list[FigureTable]:
    """The figures that a manifest keeps of each part of the data, as far as it keeps any.

    Sorted, because a server sends tables in no order.
    """
    parts = _table(provenance, "metrics")
    tables = []
    for name in sorted(parts, key=lambda name: (name == "test", name)):
        part = parts[name]
        if not isinstance(part, dict) or not measures_of(part):
            continue
        rows = f", from {part['from']} until {part['until']}" if {"from", "until"} <= part.keys() else ""
        unit = f", in {part['unit']}" if "unit" in part else ""
        tables.append(by_steps(f"Figures on the {name} rows{rows}{unit}", part))
        targets = {
            name: target for name, target in _table(part, "targets").items() if isinstance(target, dict)
        }
        if targets:
            tables.append(by_target("The same in the units of the data", dict(sorted(targets.items()))))
        above = {level: share for level, share in _table(part, "anomaly_above").items() if _is_level(level)}
        if above:
            in_order = dict(sorted(above.items(), key=lambda pair: float(pair[0])))
            tables.append(of_anomalies(f"Anomaly scores on the {name} rows", in_order))
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


def _table(part: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A table of a manifest, where anything may stand."""
    found = part.get(key)
    return found if isinstance(found, dict) else {}


def _is_level(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def _rows(part: Mapping[str, Any], names: Sequence[str]) -> list[list[str]]:
    """A row for each number of steps ahead: it, then the measures of these names."""
    measures = measures_of(part)
    steps = sorted({int(step) for values in measures.values() for step in values})
    return [[str(step), *(_text(n, measures.get(n, {}).get(str(step))) for n in names)] for step in steps]


def _heading(name: str) -> str:
    return _HEADINGS.get(name, name.replace("_", " "))


def _ordered(measures: Mapping[str, Any]) -> list[str]:
    known = [name for name in _HEADINGS if name in measures]
    return known + sorted(name for name in measures if name not in _HEADINGS)


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
