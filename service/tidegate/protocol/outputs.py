"""Which answers of a frame the client wants."""

from __future__ import annotations

from enum import IntEnum


class OutputSelection(IntEnum):
    """Numbered as on the wire."""

    ALL = 1
    """The answer of every step."""

    LAST = 2
    """The answer of the frame's last step."""

    NONE = 3
    """None: the state advances all the same."""
