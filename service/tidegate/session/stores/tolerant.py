"""Reading rows of a damaged database: the rows that cannot be read are named, the others are read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

Row = tuple[Any, ...]


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
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CORRUPT:
            raise
        if len(keys) == 1:
            return [], {keys[0]: str(error)}
    half = len(keys) // 2
    first, first_damage = select(connection, query, keys[:half])
    second, second_damage = select(connection, query, keys[half:])
    return first + second, first_damage | second_damage
