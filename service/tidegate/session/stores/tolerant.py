"""Reading rows of a damaged database: the rows that cannot be read are named, the others are read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

Row = tuple[Any, ...]


def is_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite met content that it cannot have written, and not a failure to read or write."""
    # Errors of the module itself have no code; the lower byte is the kind, the rest a shade of it.
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_CORRUPT


def select(
    connection: sqlite3.Connection, query: str, keys: Sequence[int]
) -> tuple[list[Row], dict[int, str]]:
    """Run a query that takes a JSON list of keys, in parts if SQLite meets damage.

    Returns:
        The rows that could be read, and by key why the others could not.

    Raises:
        sqlite3.Error: Something other than damage to the file's content.
    """
    if not keys:
        return [], {}
    try:
        return connection.execute(query, (json.dumps(list(keys)),)).fetchall(), {}
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        if len(keys) == 1:
            return [], {keys[0]: str(error)}
    half = len(keys) // 2
    first, first_damage = select(connection, query, keys[:half])
    second, second_damage = select(connection, query, keys[half:])
    return first + second, first_damage | second_damage
