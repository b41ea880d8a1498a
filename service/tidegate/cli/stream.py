"""`tidegate stream`: feed a CSV file to a session, one answer row per input row."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click
from rich.console import Console

from tidegate.cli.answers import AnswerFile, AnswerLayout
from tidegate.cli.connection import address_option
from tidegate.cli.feeding import Feeder
from tidegate.cli.kept_answers import KeptAnswers, note_first_step, read_kept
from tidegate.cli.progress import FeedingProgress
from tidegate.cli.replaying import count_steps, send_again
from tidegate.cli.rewinding import Rewindable
from tidegate.cli.rows import row_reader
from tidegate.cli.text_files import PIPE, is_at, opened, opened_input, stdout
from tidegate.client import AsyncClient, ModelInfo, Session
from tidegate.client.opening import Mode
from tidegate.errors import ConfigError, ModelMismatch, SessionNotFound
from tidegate.model.rows import RowReader


@dataclass(frozen=True)
class Job:
    """What the command line asks for."""

    model: str
    session_id: str | None
    address: str
    mode: Mode
    chunk: int
    input_path: str
    output_path: str
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
    carried over. Missing values, gaps and repeated times are treated by the model's own rules; a row behind
    a gap that was filled is several steps, and its answer is that of the last. A row that the rules drop
    has an empty answer row, and is counted on stderr. A server that is started again only makes the command
    wait. A command that was killed goes on where its output ends when it is given again with the same
    --session and files. It ends with 0 once every row is answered, the output is on the disk and the
    server has stored the session, which stays, to be continued with the same --session and another output.
    """
    job = Job(
        model, session_id, address, mode, chunk, input_path, output_path, skips_bad_rows=on_bad_row == "skip"
    )
    with opened_input(input_path) as file:
        if is_at(file, output_path):
            raise ConfigError(f"{output_path}: expected another file than the input, which it would replace")
        progress = FeedingProgress(file, Console(stderr=True))
        with progress.lines() as lines:
            asyncio.run(_run(job, lines, progress))


async def _run(job: Job, lines: Iterator[str], progress: FeedingProgress) -> None:
    async with AsyncClient(job.address) as client:
        model = await _model_of(client, job)
        with Rewindable(lines) as source:
            # A file that does not fit the model must not leave a session behind.
            reader = row_reader(model, source, source=job.input_path)
            layout = AnswerLayout(model.outputs, reader.time_column)
            kept = _kept(job, layout)
            next_step = None
            if kept is not None:
                reader, next_step = _counted(job, model, reader, source, kept)
            source.go_on()
            async with client.session(
                model.name,
                job.session_id,
                version=model.version,
                mode=job.mode,
                next_step=next_step,
                held_from=None if kept is None else kept.first_step,
                ack="explicit",
            ) as session:
                progress.watch(lambda: session.is_attached)
                _report_start(session, session.next_step if next_step is None else next_step)
                _report_times(reader, model)
                await _feed(job, session, reader, layout, kept)
        _report_end(reader)


def _counted(
    job: Job, model: ModelInfo, reader: RowReader, source: Rewindable, kept: KeptAnswers
) -> tuple[RowReader, int]:
    """The input from its first row on, and the step behind the rows that have answers."""
    if not model.time.max_gap_steps:
        return reader, kept.first_step + sum(kept.answered)
    next_step = count_steps(reader, kept)
    source.rewind()
    return row_reader(model, source, source=job.input_path), next_step


async def _feed(
    job: Job, session: Session, reader: RowReader, layout: AnswerLayout, kept: KeptAnswers | None
) -> None:
    with _output(job, session, kept) as file:
        answers = AnswerFile(file, layout, has_header=kept is not None)
        if kept is not None:
            await send_again(reader, kept, session)
        await Feeder(session, reader, answers, skips_bad_rows=job.skips_bad_rows).feed(job.chunk)


def _kept(job: Job, layout: AnswerLayout) -> KeptAnswers | None:
    """What an earlier run left to go on from: of the same session, which may have been there before."""
    if job.output_path == PIPE or job.session_id is None or job.mode == "create":
        return None
    return read_kept(Path(job.output_path), layout.columns, has_time=layout.time_column is not None)


@contextmanager
def _output(job: Job, session: Session, kept: KeptAnswers | None) -> Iterator[IO[str]]:
    """The file to write to, with nothing behind the rows that were kept."""
    if job.output_path == PIPE:
        yield stdout()
        return
    path = Path(job.output_path)
    try:
        with opened(path, "w" if kept is None else "r+") as file:
            if kept is None:
                note_first_step(path, session.next_step)
            else:
                file.truncate(kept.num_bytes)
                file.seek(0, os.SEEK_END)
            yield file
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


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


def _report_start(session: Session, step: int) -> None:
    where = "starts" if step == 0 else f"continues at step {step}"
    click.echo(f"session {session.session_id} of {session.model.label} {where}", err=True)


def _report_times(reader: RowReader, model: ModelInfo) -> None:
    """A misspelt column must not turn the rules about time off without a word."""
    if model.time.column and reader.time_column is None:
        click.echo(f"no column {model.time.column!r}: every row is the next step, at whatever time", err=True)


def _report_end(reader: RowReader) -> None:
    """What became of the file's times, if anything did; over the whole file, whoever fed which part of it."""
    if reader.num_dropped:
        click.echo(
            f"dropped: {reader.num_dropped} rows, whose times repeat, go back or come too early", err=True
        )
    if reader.num_filled:
        click.echo(f"filled: {reader.num_filled} steps in gaps between rows", err=True)
