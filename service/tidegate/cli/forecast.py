"""`tidegate forecast`: the steps ahead of a session, which does not advance."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click

from tidegate.cli.answers import answer_columns
from tidegate.cli.connection import ONE_SHOT, address_option, print_table
from tidegate.cli.known_ahead import NOTHING, KnownColumns, future_of, read_known_columns, step_times
from tidegate.client import Client, ModelInfo, TensorSpec
from tidegate.client.forecasts import Forecast
from tidegate.errors import ConfigError, InvalidRequest
from tidegate.model.parsing import parse_time
from tidegate.tensor import Array


@click.command
@click.argument("session_id", metavar="SESSION")
@click.option("--steps", "num_steps", type=click.IntRange(min=1), required=True, help="How many steps ahead.")
@click.option(
    "--future",
    "future_path",
    metavar="FILE",
    help="CSV with what is known ahead, one row per coming step; - is stdin.",
)
@click.option(
    "--from-time",
    "newest_text",
    metavar="TIME",
    help="Time of the session's newest row; the coming steps follow it by the model's cadence.",
)
@click.option(
    "--output",
    "output_path",
    metavar="FILE",
    help="Write the numbers as CSV instead of a table; - is stdout.",
)
@click.option("--plot", "plot_path", metavar="FILE", help="Draw the forecast (PNG).")
@address_option
def forecast(
    session_id: str,
    num_steps: int,
    future_path: str | None,
    newest_text: str | None,
    output_path: str | None,
    plot_path: str | None,
    address: str,
) -> None:
    """Forecast the next steps of SESSION from its state at this moment.

    The session does not advance. A model that feeds its answers back needs what it cannot predict, such as
    a plan, from --future: columns are found by the names of the model's features, and an empty cell means
    "as predicted". What the model computes from the calendar it needs times for: from --from-time, or from
    the time column of --future. They are shown beside the steps.
    """
    if plot_path is not None:
        # Before any work is done: the drawing library comes with an extra.
        from tidegate.cli.forecast_plot import draw
    with Client(address, recovery=ONE_SHOT) as client:
        session = client.sessions.get(session_id)
        model = client.models.get(session.model, session.version)
        known = NOTHING if future_path is None else _read(model, future_path, num_steps)
        newest = None if newest_text is None else _parsed(model, newest_text)
        times = step_times(model.time, newest, known, num_steps)
        made = _forecast(client, session_id, model, num_steps, future_of(model, known, times))
    columns = [*_columns(model.inputs, made.inputs), *_columns(model.outputs, made.outputs)]
    heading, leading = _leading(made, model, times)
    if output_path is not None:
        _write_csv(heading, leading, columns, output_path)
    else:
        _print(heading, leading, columns)
    if plot_path is not None:
        draw(made, model.outputs, Path(plot_path), title=f"{session_id} ({model.label})")


def _columns(specs: Sequence[TensorSpec], arrays: Mapping[str, Array]) -> list[tuple[str, Array]]:
    """A name and the values `[rows]` of every element."""
    columns = []
    for spec in (s for s in specs if s.name in arrays):
        values = arrays[spec.name]
        # What the model looks ahead by itself has become rows.
        is_row = values.shape[1:] != spec.step_shape
        of_row = replace(spec, step_shape=values.shape[1:], horizon_steps=()) if is_row else spec
        columns += list(zip(answer_columns(of_row), values.reshape(len(values), -1).T, strict=True))
    return columns


def _forecast(
    client: Client, session_id: str, model: ModelInfo, num_steps: int, future: Mapping[str, Array]
) -> Forecast:
    try:
        return client.sessions.forecast(session_id, num_steps, future)
    except InvalidRequest as error:
        lacking = sorted(name for name in model.time.computed_features if f"feature {name!r}" in str(error))
        if not lacking:
            raise
        raise InvalidRequest(
            f"{error}; {', '.join(lacking)}: computed from the time, which --from-time gives, or a column "
            f"{model.time.column!r} in --future"
        ) from error


def _parsed(model: ModelInfo, text: str) -> datetime:
    try:
        return parse_time(text, model.time.zone)
    except InvalidRequest as error:
        raise click.BadParameter(str(error), param_hint="--from-time") from None


def _leading(
    made: Forecast, model: ModelInfo, times: Sequence[datetime]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """What stands in front of the numbers: step, how far ahead and, where it is known, the time in its zone."""
    numbers = list(zip(made.steps.astype(str).tolist(), made.horizon_steps.astype(str).tolist(), strict=True))
    if not times:
        return ("step", "ahead"), list(numbers)
    local = [
        times[ahead - 1].astimezone(model.time.zone).isoformat() for ahead in made.horizon_steps.tolist()
    ]
    return ("step", "ahead", "time"), [(*pair, time) for pair, time in zip(numbers, local, strict=True)]


def _read(model: ModelInfo, path: str, num_steps: int) -> KnownColumns:
    try:
        with click.open_file(path, encoding="utf-8") as file:
            return read_known_columns(model, file, num_steps=num_steps, source=path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text: {error}") from error


def _print(
    heading: Sequence[str], leading: Sequence[tuple[str, ...]], columns: Sequence[tuple[str, Array]]
) -> None:
    rows = [(*first, *(f"{values[i]:.6g}" for _, values in columns)) for i, first in enumerate(leading)]
    print_table((*(name.upper() for name in heading), *(name for name, _ in columns)), rows)


def _write_csv(
    heading: Sequence[str],
    leading: Sequence[tuple[str, ...]],
    columns: Sequence[tuple[str, Array]],
    path: str,
) -> None:
    # numpy spells a float32 with as many digits as tell it apart, and no more.
    cells = zip(*(values.astype(str).tolist() for _, values in columns), strict=True)
    try:
        with click.open_file(path, "w", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow((*heading, *(name for name, _ in columns)))
            writer.writerows((*first, *row) for first, row in zip(leading, cells, strict=True))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
