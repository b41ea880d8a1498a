"""`tidegate inspect`: the gates and memories of a session's layers over the steps of a file."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path

import click
import numpy as np

from tidegate.cli.connection import ONE_SHOT, address_option
from tidegate.cli.rows import read_series
from tidegate.client import AsyncClient, Inspection, ModelInfo
from tidegate.errors import ConfigError
from tidegate.tensor import Array


@click.command
@click.argument("session_id", metavar="SESSION")
@click.option("--input", "input_path", required=True, metavar="FILE", help="CSV with a header; - is stdin.")
@click.option("--png", "png_path", metavar="FILE", help="Draw heat maps, one row of them per layer.")
@click.option("--csv", "csv_path", metavar="FILE", help="Write the numbers, one per line.")
@address_option
def inspect(
    session_id: str, input_path: str, png_path: str | None, csv_path: str | None, address: str
) -> None:
    """Show what the recurrent layers of SESSION would do in the steps of a file.

    The session does not advance: the steps are taken by a copy of its state. Columns are found by the
    names of the model's features.
    """
    if png_path is None and csv_path is None:
        raise click.UsageError("expected --png, --csv or both")
    if png_path is not None:
        # Before any work is done: the drawing library comes with an extra.
        from tidegate.cli.heat_maps import draw
    inspection = asyncio.run(_inspect(address, session_id, input_path))
    if csv_path is not None:
        _write_csv(inspection, Path(csv_path))
    if png_path is not None:
        draw(inspection, Path(png_path), title=session_id)
    last_step = inspection.first_step + inspection.num_steps - 1
    layers = ", ".join(f"{lr.cell} of {lr.traces['h_t'].shape[1]}" for lr in inspection.layers)
    click.echo(f"{session_id}: steps {inspection.first_step} to {last_step}: {layers}", err=True)


async def _inspect(address: str, session_id: str, input_path: str) -> Inspection:
    async with AsyncClient(address, recovery=ONE_SHOT) as client:
        session = await client.sessions.get(session_id)
        model = await client.models.get_ready(session.model, session.version)
        return await client.sessions.inspect(session_id, _read(model, input_path))


def _read(model: ModelInfo, path: str) -> dict[str, Array]:
    try:
        with click.open_file(path, encoding="utf-8") as file:
            return read_series(model, file, source=path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text: {error}") from error


def _write_csv(inspection: Inspection, path: Path) -> None:
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("step", "layer", "cell", "trace", "unit", "value"))
            for number, layer in enumerate(inspection.layers):
                for name, values in layer.traces.items():
                    writer.writerows(_lines(inspection.first_step, (number, layer.cell, name), values))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def _lines(first_step: int, place: tuple[int, str, str], values: Array) -> list[tuple[object, ...]]:
    return [
        (first_step + step, *place, unit, np.format_float_positional(value, unique=True, trim="-"))
        for (step, unit), value in np.ndenumerate(values)
    ]
