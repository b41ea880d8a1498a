"""`tidegate evaluate`: how good a package's forecasts are on a file, streamed as a server would."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from tidegate.cli.connection import print_facts
from tidegate.cli.figure_tables import (
    FigureTable,
    by_measure,
    by_steps,
    by_target,
    of_anomalies,
    print_tables,
)
from tidegate.cli.packages import open_package
from tidegate.errors import ConfigError, InvalidRequest
from tidegate.model.data_files import data_file
from tidegate.model.manifest import Manifest
from tidegate.model.package import ModelPackage
from tidegate.model.parsing import parse_time

if TYPE_CHECKING:
    from tidegate.evaluation.evaluation import Evaluation, Plan

STDOUT = "-"


@click.command
@click.argument("package")
@click.argument("data", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--with",
    "others",
    metavar="PACKAGE",
    multiple=True,
    help="Evaluate this package too and show the mean, and the spread; can be repeated.",
)
@click.option(
    "--models",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("models"),
    show_default=True,
    help="Model repository that names are looked up in.",
)
@click.option(
    "--from", "first", metavar="TIME", help="First time that is forecast: a date, or date and time."
)
@click.option("--until", metavar="TIME", help="First time behind the last one that is forecast.")
@click.option("--horizons", metavar="H,H,…", help="Average from 1 up to so many steps ahead, for each H.")
@click.option("--season-steps", type=click.IntRange(min=1), help="Steps in a season, for the naive forecast.")
@click.option("--output", default="", help="Output to evaluate instead of the one that [forecast] names.")
@click.option("--json", "json_path", metavar="FILE", help="Write everything as JSON; - is stdout.")
@click.option(
    "--png",
    "png_folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Draw errors, coverage and an excerpt into this folder.",
)
def evaluate(
    package: str,
    data: Path | None,
    others: tuple[str, ...],
    models: Path,
    json_path: str | None,
    png_folder: Path | None,
    **asked: Any,
) -> None:
    """Score the forecasts of PACKAGE on the rows of DATA.

    PACKAGE is a folder, or NAME or NAME/VERSION in --models; DATA is a CSV file, without it the file of the
    package's recipe. All rows are streamed through the engine that serves, from the first one on, so that
    the session is as old as a served one. Those between --from and --until are scored: the held-out rows, if the
    package has a recipe and nothing else is said. The naive forecasts repeat the last value, and the value
    at the same place of the last season.

    Packages of one recipe that were trained with several seeds are told together by --with.
    """
    if png_folder is not None and others:
        raise click.UsageError("--png draws one package: leave out --with")
    if png_folder is not None:
        # Before any work is done: the drawing library comes with an extra.
        from tidegate.cli.evaluation_pictures import draw_all
    from tidegate.evaluation.figures import json_figures
    from tidegate.evaluation.several import joined_figures

    read = [open_package(name, models) for name in (package, *others)]
    data = data or _recipe_data(read[0])
    found = [_evaluated(one, data, _plan(one.manifest, **asked)) for one in read]
    figures = joined_figures([json_figures(one) for one in found])
    print_facts(_facts(figures), err=True)
    if json_path != STDOUT:
        click.echo(err=True)
        print_tables(_tables(figures))
    if json_path is not None:
        _write(json.dumps(figures, indent=2) + "\n", json_path)
    if png_folder is not None:
        for path in draw_all(found[0], png_folder):
            click.echo(path, err=True)


def _evaluated(package: ModelPackage, data: Path, plan: Plan) -> Evaluation:
    from tidegate.evaluation.evaluation import evaluate_package
    from tidegate.evaluation.predicted import predicted
    from tidegate.evaluation.series import read_series
    from tidegate.evaluation.streaming import load_runner

    series = read_series(data, package.manifest, predicted(package.manifest, plan.output).targets)
    with _progress() as report:
        return evaluate_package(load_runner(package), series, plan, report)


def _recipe_data(package: ModelPackage) -> Path:
    """The file that the package was trained on; the recipe lies beside the versions."""
    from tidegate.evaluation.split import recipe_file

    name = recipe_file(package.manifest)
    if name is None:
        raise ConfigError(f"DATA: required, because {package.manifest.label} has no recipe that names a file")
    return data_file(name, package.path.resolve().parent)


def _plan(
    manifest: Manifest,
    *,
    first: str | None,
    until: str | None,
    horizons: str | None,
    season_steps: int | None,
    output: str,
) -> Plan:
    from tidegate.evaluation.evaluation import Plan

    return Plan(
        first=_time(manifest, "--from", first),
        until=_time(manifest, "--until", until),
        horizons=() if horizons is None else _numbers("--horizons", horizons),
        season_steps=season_steps or 0,
        output=output,
    )


def _time(manifest: Manifest, option: str, text: str | None) -> datetime | None:
    try:
        return None if text is None else parse_time(text, manifest.time.zone)
    except InvalidRequest as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def _numbers(option: str, text: str) -> tuple[int, ...]:
    numbers = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in numbers):
        raise click.BadParameter(f"expected whole numbers above 0, got {text!r}", param_hint=option)
    return tuple(int(part) for part in numbers)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn("rows"), BarColumn(bar_width=20), TaskProgressColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("")
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _facts(figures: dict[str, Any]) -> list[tuple[str, str]]:
    data, split, not_held_out = figures["data"], figures["split"], figures["rows_not_held_out"]
    filled = f", {data['steps_filled']} of them filled" if data["steps_filled"] else ""
    dropped = f", {data['rows_dropped']} dropped" if data["rows_dropped"] else ""
    facts = [
        ("model", figures["model"]),
        ("data", f"{data['file']}: {data['rows']} rows{filled}{dropped} (sha256 {data['sha256'][:12]}…)"),
        ("scored", f"{split['rows']} rows, from {split['from']} until {split['until']}"),
        (
            "held out",
            f"not all: {not_held_out} of these rows were trained or chosen on" if not_held_out else "",
        ),
        ("forecast", figures["point"]),
        ("interval", _interval(*figures["interval"]) if figures["interval"] else ""),
        ("season", f"{figures['season_steps']} steps" if figures["season_steps"] else ""),
        ("known ahead", ", ".join(figures["known_ahead"])),
    ]
    return [(name, value) for name, value in facts if value]


def _interval(low: float, high: float) -> str:
    return f"quantiles {low:g} to {high:g}, should hold {100 * (high - low):.3g}%"


def _tables(figures: dict[str, Any]) -> list[FigureTable]:
    targets = {name: {"unit": t["unit"], **t["up_to"]} for name, t in figures["targets"].items()}
    of_all = f"Means of {len(figures['packages'])} packages. " if "packages" in figures else ""
    tables = [
        by_steps(
            f"{of_all}Averages from 1 up to so many steps ahead, in {figures['unit']}", figures["up_to"]
        ),
        by_target("The same in the units of the data", targets),
        by_steps(f"Exactly so many steps ahead, in {figures['unit']}", _at(figures)),
    ]
    if "spread" in figures:
        tables.insert(1, by_measure("Their spread: standard deviation over the packages", figures["spread"]))
    if figures["anomaly"]:
        tables.append(of_anomalies("Anomaly scores", figures["anomaly"]["above"]))
    return tables


def _at(figures: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """The measures at the horizons that the windows end at, without those in between."""
    windows = figures["up_to"]["windows"]
    return {name: {step: values[step] for step in windows} for name, values in figures["at"].items()}


def _write(text: str, path: str) -> None:
    try:
        with click.open_file(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
