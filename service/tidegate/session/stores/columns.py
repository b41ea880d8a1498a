"""Columns of integers as parameters of one SQL statement, which then writes many rows.

A column is one parameter: its integers in decimal, `DIGITS` bytes each. The statement goes through positions
in it, `FROM json_each(:positions)`, and takes the integer at each with `cell`.
"""

from __future__ import annotations

import json

from tidegate.tensor import IntArray

DIGITS = 20
"""Bytes of an integer: the longest of 64 bits, with its sign."""


def column(values: IntArray) -> bytes:
    """Integers as a parameter, shape (n,)."""
    return (f"%0{DIGITS}d" * len(values) % tuple(values.tolist())).encode()


def positions(values: IntArray) -> str:
    """Where a statement is to look, as a parameter, shape (n,)."""
    return json.dumps(values.tolist())


def cell(name: str) -> str:
    """SQL for the integer at a position, of the column in the parameter of this name."""
    return f"CAST(substr(:{name}, value * {DIGITS} + 1, {DIGITS}) AS INTEGER)"
