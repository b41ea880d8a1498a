"""`tidegate sessions`: look at the sessions of a server, and end them."""

from __future__ import annotations

import click

from tidegate.cli.connection import address_option, clock, print_facts, print_table
from tidegate.client import Client, SessionInfo


@click.group
def sessions() -> None:
    """Look at the sessions of a server, and end them."""


@sessions.command("list")
@click.option("--model", default="", help="Only sessions of this model.")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="At most so many.")
@address_option
def list_sessions(model: str, limit: int, address: str) -> None:
    """List the sessions that the server knows."""
    with Client(address) as client:
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
    with Client(address) as client:
        print_facts(_facts(client.sessions.get(session_id)))


@sessions.command("close")
@click.argument("session_id")
@address_option
def close_session(session_id: str, address: str) -> None:
    """End a session for good: its state is deleted, its id is free again."""
    with Client(address) as client:
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
