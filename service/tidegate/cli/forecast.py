"""`tidegate forecast`: the steps ahead of a session, which does not advance."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from tidegate.cli.answers import answer_columns
from tidegate.cli.connection import ONE_SHOT, address_option, print_table
from tidegate.cli.rows import read_known_columns
from tidegate.client import Client, ModelInfo, TensorSpec
from tidegate.client.forecasts import Forecast
from tidegate.errors import ConfigError
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
@click.option("--output", "output_path", metavar="FILE", help="Write the numbers as CSV instead of a table.")
@click.option("--plot", "plot_path", metavar="FILE", help="Draw the forecast (PNG).")
@address_option
def forecast(
    session_id: str,
    num_steps: int,
    future_path: str | None,
    output_path: str | None,
    plot_path: str | None,
    address: str,
) -> None:
    """Forecast the next steps of SESSION from its state at this moment.

    The session does not advance. A model that feeds its answers back needs what it cannot predict, such as
    a calendar or a plan, from --future: columns are found by the names of the model's features, and an
    empty cell means "as predicted".
    """
    if plot_path is not None:
        # Before any work is done: the drawing library comes with an extra.
        from tidegate.cli.forecast_plot import draw
    with Client(address, recovery=ONE_SHOT) as client:
        session = client.sessions.get(session_id)
        model = client.models.get(session.model, session.version)
        future = {} if future_path is None else _read(model, future_path)
        made = client.sessions.forecast(session_id, num_steps, future)
    columns = [*_columns(model.inputs, made.inputs), *_columns(model.outputs, made.outputs)]
    if output_path is not None:
        _write_csv(made, columns, Path(output_path))
    else:
        _print(made, columns)
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


def _read(model: ModelInfo, path: str) -> dict[str, Array]:
    try:
        with click.open_file(path, encoding="utf-8") as file:
            return read_known_columns(model, file, source=path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text: {error}") from error


def _print(made: Forecast, columns: Sequence[tuple[str, Array]]) -> None:
    rows = [
        (str(step), str(ahead), *(f"{values[i]:.6g}" for _, values in columns))
        for i, (step, ahead) in enumerate(zip(made.steps, made.horizon_steps, strict=True))
    ]
    print_table(("STEP", "AHEAD", *(name for name, _ in columns)), rows)


def _write_csv(made: Forecast, columns: Sequence[tuple[str, Array]], path: Path) -> None:
    # numpy spells a float32 with as many digits as tell it apart, and no more.
    cells = np.stack(
        [made.steps.astype(str), made.horizon_steps.astype(str), *(v.astype(str) for _, v in columns)]
    )
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("step", "ahead", *(name for name, _ in columns)))
            writer.writerows(cells.T.tolist())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
