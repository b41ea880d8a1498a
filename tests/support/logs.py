"""What a running server has logged."""

from __future__ import annotations

import json

from support.server import ServerProcess


def errors(server: ServerProcess) -> list[dict[str, str]]:
    """What the log says at level error."""
    entries = [json.loads(line) for line in server.log().splitlines()]
    return [entry for entry in entries if entry["level"] == "error"]
