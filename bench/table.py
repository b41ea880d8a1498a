"""How figures are shown and kept."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.goals import GOALS
from bench.setting import Figure, Numbers


def records(figures: Iterable[Figure]) -> list[dict[str, Any]]:
    """The figures as `{"name", "value", "unit", "goal", "met"}`; those without a goal have null for it."""
    found = []
    for figure in figures:
        goal = GOALS.get(figure.name)
        found.append(
            {
                "name": figure.name,
                "value": round(figure.value, 4),
                "unit": goal.unit if goal else "ratio",
                "goal": str(goal) if goal else None,
                "met": goal.is_met(figure.value) if goal else None,
            }
        )
    return found


def line(figure: Figure) -> str:
    """One figure in a line of text."""
    (record,) = records([figure])
    verdict = {True: "met", False: "NOT MET", None: ""}[record["met"]]
    return f"{figure.name:28} {figure.value:8.3f} {record['unit']:6} {record['goal'] or '':8} {verdict}"


def show(figures: Iterable[Figure], title: str, console: Console) -> None:
    """Print the table."""
    table = Table(title=title)
    for heading in ("name", "value", "unit", "goal", "met", "what"):
        table.add_column(heading, justify="right" if heading == "value" else "left")
    for record in records(figures):
        goal = GOALS.get(record["name"])
        met = {True: "[green]yes[/]", False: "[bold red]no[/]", None: ""}[record["met"]]
        meaning = goal.meaning if goal else ""
        table.add_row(
            record["name"], f"{record['value']:.3f}", record["unit"], record["goal"] or "", met, meaning
        )
    console.print(table)


def write(path: Path, figures: Iterable[Figure], machine: Numbers, raw: dict[str, Numbers]) -> None:
    """Write the table to `path`, and the machine and the raw figures to a file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records(figures), indent=2, ensure_ascii=False) + "\n")
    beside = path.with_name(f"{path.stem}-raw.json")
    beside.write_text(json.dumps({"machine": machine, "figures": rounded(raw)}, indent=1) + "\n")


def rounded(value: Any) -> Any:
    """Four digits after the point are more than any of the figures deserves."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return round(value, 4) if isinstance(value, float) else value
