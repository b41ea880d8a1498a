"""What the commands that talk to a server share: its address, tables, and clocks for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime

import click
from rich.console import Console
from rich.table import Table

from tidegate.client.channel import DEFAULT_ADDRESS
from tidegate.client.recovery import RecoveryOptions

address_option = click.option(
    "--address",
    default=DEFAULT_ADDRESS,
    show_default=True,
    metavar="HOST:PORT",
    help="The server.",
)


ONE_SHOT = RecoveryOptions(open_timeout_s=5.0)
"""A person waits for the answer, and sooner hears that no server is there than waits for one to come back. On a busy
machine a server that was started a moment ago takes 3 s until it listens."""

PIPE_COLUMNS = 10_000
"""Wide enough for any row; nothing is padded to it."""


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; on a pipe, a line for each row however long it is."""
    table = Table(*headings, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*row)
    is_terminal = sys.stdout.isatty()
    Console(width=None if is_terminal else PIPE_COLUMNS, soft_wrap=not is_terminal).print(table)


def print_facts(facts: Iterable[tuple[str, str]], *, err: bool = False) -> None:
    """Print names and values, one pair a line; to stderr if `err`."""
    pairs = list(facts)
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        click.echo(f"{name:<{width}}  {value}", err=err)


def clock(time: datetime | None) -> str:
    """A time as the reader's clock shows it."""
    return "" if time is None else time.astimezone().isoformat(sep=" ", timespec="seconds")
