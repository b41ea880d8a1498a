"""Whether a server is at rest with its books in order, asked of the server itself."""

from __future__ import annotations

from support.metrics import becomes, value
from support.server import ServerProcess
from support.waiting import eventually

CHECKS = "tidegate_integrity_checks_total"


async def books_hold(server: ServerProcess) -> None:
    """Wait until nothing is held for any client, and until the server has then checked its books once.

    It does so when idle, four times per `--detached-idle-timeout-s`: give it a short one.

    Raises:
        AssertionError: Bytes stay counted, no check is made, one failed, or an error was INTERNAL.
    """

    async def was_checked() -> bool:
        return value(server, CHECKS) > checks

    await becomes(server, 0, "tidegate_pending_bytes")
    checks = value(server, CHECKS)
    await eventually(was_checked)

    assert value(server, CHECKS, outcome="failed") == 0, server.log()
    assert value(server, "tidegate_errors_total", code="INTERNAL") == 0, server.log()
