"""`tidegate stream`: feed a CSV file to a session, one answer row per input row."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from tidegate.cli.answers import AnswerFile
from tidegate.cli.connection import address_option
from tidegate.cli.feeding import Feeder
from tidegate.cli.rows import row_reader
from tidegate.client import AsyncClient, ModelInfo, Session
from tidegate.client.opening import Mode
from tidegate.errors import ConfigError, ModelMismatch, SessionNotFound


@dataclass(frozen=True)
class Job:
    """What the command line asks for."""

    model: str
    session_id: str | None
    address: str
    mode: Mode
    chunk: int
    skips_bad_rows: bool


@click.command
@click.argument("model")
@click.option("--input", "input_path", required=True, metavar="FILE", help="CSV with a header; - is stdin.")
@click.option("--output", "output_path", required=True, metavar="FILE", help="CSV to write; - is stdout.")
@click.option(
    "--session", "session_id", metavar="ID", help="Session to feed; a random id where none is given."
)
@address_option
@click.option(
    "--chunk",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Rows sent at a time. 1 answers each row as it comes; more is faster for a file.",
)
@click.option(
    "--mode",
    type=click.Choice(["create", "resume", "create-or-resume"]),
    default="create-or-resume",
    show_default=True,
    help="Whether the session must be new.",
)
@click.option(
    "--on-bad-row",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="What to do with a row that cannot be a step: stop with its number, or leave its answer empty.",
)
def stream(
    model: str,
    input_path: str,
    output_path: str,
    session_id: str | None,
    address: str,
    chunk: int,
    mode: Mode,
    on_bad_row: str,
) -> None:
    """Feed a CSV file to a session of MODEL and write one answer row per input row.

    Columns are found by the names of the model's features. The time column, where there is one, is
    carried over. The command ends with 0 once every row is answered and the output is on the disk; the
    session stays, to be continued with the same --session.
    """
    job = Job(model, session_id, address, mode, chunk, skips_bad_rows=on_bad_row == "skip")
    with ExitStack() as stack:
        lines = stack.enter_context(_with_progress(_opened(stack, input_path, "r")))
        try:
            asyncio.run(_run(job, lines, input_path, lambda: _opened(stack, output_path, "w")))
        except UnicodeDecodeError as error:
            raise ConfigError(f"{input_path}: expected UTF-8 text: {error}") from error


async def _run(job: Job, lines: Iterator[str], source: str, open_output: Callable[[], TextIO]) -> None:
    async with AsyncClient(job.address) as client:
        model = await _model_of(client, job)
        # A file that does not fit the model must not leave a session behind.
        reader = row_reader(model, lines, source=source)
        async with client.session(
            model.name, job.session_id, version=model.version, mode=job.mode
        ) as session:
            _report_start(session)
            column = model.time_column if model.time_column in reader.header else None
            answers = AnswerFile(open_output(), model.outputs, column)
            feeder = Feeder(session, reader, answers, skips_bad_rows=job.skips_bad_rows)
            await feeder.feed(job.chunk)


async def _model_of(client: AsyncClient, job: Job) -> ModelInfo:
    """The version that the session is, or will be, pinned to."""
    if job.session_id is not None and job.mode != "create":
        with suppress(SessionNotFound):
            session = await client.sessions.get(job.session_id)
            if session.model != job.model:
                raise ModelMismatch(
                    f"session {job.session_id!r}: expected one of model {job.model}, got {session.model}"
                )
            return await client.models.get_ready(session.model, session.version)
    return await client.models.get_ready(job.model)


def _report_start(session: Session) -> None:
    where = "starts" if session.next_step == 0 else f"continues at step {session.next_step}"
    click.echo(f"session {session.session_id} of {session.model.label} {where}", err=True)


def _opened(stack: ExitStack, path: str, mode: Literal["r", "w"]) -> TextIO:
    if path == "-":
        return sys.stdin if mode == "r" else sys.stdout
    try:
        return stack.enter_context(Path(path).open(mode, encoding="utf-8", newline=""))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


@contextmanager
def _with_progress(file: TextIO) -> Iterator[Iterator[str]]:
    """The lines of a file, with a progress bar on stderr where someone watches and the length is known."""
    console = Console(stderr=True)
    if file is sys.stdin or not console.is_terminal:
        yield iter(file)
        return
    columns = (TextColumn("{task.completed} of {task.total} bytes"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=os.fstat(file.fileno()).st_size)
        yield _counted(file, lambda num_bytes: progress.advance(task, num_bytes))


def _counted(file: TextIO, advance: Callable[[int], None]) -> Iterator[str]:
    for line in file:
        yield line
        advance(len(line.encode()))
