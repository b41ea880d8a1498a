"""`python -m bench`: measure, print a table, keep the figures."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import click
import uvloop
from rich.console import Console

from bench import table
from bench.contention import foreign_cores, usage, warning
from bench.figures import GROUPS, Group
from bench.goals import GOALS
from bench.machine import choose_cores, describe
from bench.setting import QUICK, Durations, Figure, Setting

RESULTS = Path(__file__).parent / "results"


@click.command
@click.option("--only", default="", help="Names of figures or their beginnings, with commas between.")
@click.option("--quick", is_flag=True, help="Short slices, to see that it works; the figures mean little.")
@click.option("--details", is_flag=True, help="Print the raw figures too.")
@click.option("--full", is_flag=True, help="Then other models, and a sweep with a plot.")
def main(only: str, quick: bool, details: bool, full: bool) -> None:
    """Measure the server against what this machine can do; see bench/README.md."""
    cores = choose_cores()
    machine = describe(cores)
    os.sched_setaffinity(0, {cores.load})
    console = Console(width=120)
    figures: list[Figure] = []

    def report(figure: Figure) -> None:
        figures.append(figure)
        click.echo(table.line(figure))

    groups = _chosen(only)
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        setting = Setting(cores, QUICK if quick else Durations(), Path(folder), report)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_measure(groups, setting))
            title = f"{machine['cpu']} · {machine['date']}{' · QUICK' if quick else ''}"
            table.show(_in_order(figures), title, console)
            if details:
                console.print_json(data=table.rounded(setting.raw))
            if not quick and len(groups) == len(GROUPS):
                table.write(RESULTS / "latest.json", _in_order(figures), machine, setting.raw)
            if full:
                from bench.full import measure_full

                runner.run(measure_full(setting, machine, RESULTS, console))


def _chosen(only: str) -> list[Group]:
    wanted = tuple(name.strip() for name in only.split(",") if name.strip())
    unknown = [w for w in wanted if not any(name.startswith(w) for name in GOALS)]
    if unknown:
        raise click.BadParameter(f"no figure begins with {unknown[0]!r}: {', '.join(GOALS)}")
    return [
        group for group, names in GROUPS.items() if not wanted or any(n.startswith(wanted) for n in names)
    ]


async def _measure(groups: list[Group], setting: Setting) -> None:
    for group in groups:
        before = usage()
        await group(setting)
        cores = foreign_cores(before, usage())
        for name in GROUPS[group]:
            setting.raw[name]["cores"] = cores
        if text := warning(cores):
            click.echo(text)


def _in_order(figures: list[Figure]) -> list[Figure]:
    order = list(GOALS)
    return sorted(figures, key=lambda figure: order.index(figure.name))


if __name__ == "__main__":
    main()
