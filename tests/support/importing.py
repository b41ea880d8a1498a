"""`tidegate models import` as a call: how it ended, and what it said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

STATE = ("--state", "h=h_out", "--initial", "zeros")
"""What most models need."""


@dataclass(frozen=True)
class Done:
    """How the command ended."""

    code: int
    out: str
    err: str
    models: Path


Import = Callable[..., Done]
