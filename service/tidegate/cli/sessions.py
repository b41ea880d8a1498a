"""`tidegate sessions`: look at the sessions of a server, copy them, and end them."""

from __future__ import annotations

from pathlib import Path

import click

from tidegate.cli.connection import ONE_SHOT, address_option, clock, print_facts, print_table
from tidegate.cli.whole_files import write_whole
from tidegate.client import Client, SessionInfo
from tidegate.errors import ConfigError


@click.group
def sessions() -> None:
    """Look at the sessions of a server, copy them, and end them."""


@sessions.command("list")
@click.option("--model", default="", help="Only sessions of this model.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="At most so many.")
@address_option
def list_sessions(model: str, limit: int, address: str) -> None:
    """List the sessions that the server knows."""
    with Client(address, recovery=ONE_SHOT) as client:
        found = client.sessions.list(model, limit=limit)
    print_table(
        ("SESSION", "MODEL", "CONDITION", "NEXT STEP", "DURABLE STEP", "LAST USED"),
        [
            (
                s.session_id,
                f"{s.model}/{s.version}",
                s.condition,
                str(s.next_step),
                str(s.durable_step),
                clock(s.last_used_at),
            )
            for s in found
        ],
    )


@sessions.command("show")
@click.argument("session_id")
@address_option
def show_session(session_id: str, address: str) -> None:
    """Show one session."""
    with Client(address, recovery=ONE_SHOT) as client:
        print_facts(_facts(client.sessions.get(session_id)))


@sessions.command("export")
@click.argument("session_id")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@address_option
def export_session(session_id: str, path: Path, address: str) -> None:
    """Write a session's state to FILE, from which any server with the same model version begins one."""
    with Client(address, recovery=ONE_SHOT) as client:
        snapshot = client.sessions.export_snapshot(session_id)
    write_whole(path, snapshot)
    click.echo(f"{session_id}: {len(snapshot)} bytes in {path}")


@sessions.command("import")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--session", "session_id", default="", metavar="ID", help="Instead of the id in the file.")
@address_option
def import_session(path: Path, session_id: str, address: str) -> None:
    """Begin a session with the state in FILE."""
    try:
        snapshot = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    with Client(address, recovery=ONE_SHOT) as client:
        session = client.sessions.import_snapshot(snapshot, session_id)
    click.echo(f"{session.session_id}: begins at step {session.next_step}")


@sessions.command("fork")
@click.argument("session_id")
@click.argument("new_id")
@address_option
def fork_session(session_id: str, new_id: str, address: str) -> None:
    """Begin the session NEW_ID with the state that SESSION_ID has now."""
    with Client(address, recovery=ONE_SHOT) as client:
        session = client.sessions.fork(session_id, new_id)
    click.echo(f"{new_id}: begins at step {session.next_step}")


@sessions.command("close")
@click.argument("session_id")
@address_option
def close_session(session_id: str, address: str) -> None:
    """End a session for good: its state is deleted, its id is free again."""
    with Client(address, recovery=ONE_SHOT) as client:
        num_steps = client.sessions.close(session_id)
    click.echo(f"{session_id}: ended after {num_steps} steps")


def _facts(session: SessionInfo) -> list[tuple[str, str]]:
    return [
        ("session", session.session_id),
        ("model", f"{session.model}/{session.version}"),
        ("condition", session.condition),
        ("next step", str(session.next_step)),
        ("durable step", str(session.durable_step)),
        ("last used", clock(session.last_used_at)),
    ]
