"""What a sequence is called: by its client, and among the sessions.

A sequence is a session whose id is made from the model, the kind of the client's id and that id, so sequence
5, sequence "5" and sequence 5 of another model are three. All such ids begin with RESERVED, with which no
other session's id may begin: nobody else steps a sequence, because nobody else knows its rules.
"""

from __future__ import annotations

from typing import Final

from tidegate.errors import InvalidRequest, ModelNotFound

RESERVED: Final = "sequence/"
"""How the ids of all sequences begin, and of nothing else."""

MAX_TEXT_BYTES: Final = 128
"""Longest id that is a text, in UTF-8."""

MAX_MODEL_NAME_CHARS: Final = 128
"""Longest name that a model can have, in ASCII."""

MAX_KEY_BYTES: Final = len(RESERVED) + MAX_MODEL_NAME_CHARS + len("/str/") + MAX_TEXT_BYTES
"""Longest session id that a key makes."""

ALWAYS_SHORT_CHARS: Final = MAX_TEXT_BYTES // 4
"""A text of so many characters cannot be too long in UTF-8."""


class SequenceKey:
    """A model and a client's id.

    Attributes:
        model: Name of the model.
        id: A number of 64 bits, or a text; 0 and "" are none.
        session_id: The id of the session; no two keys have the same.
    """

    __slots__ = ("id", "model", "session_id")

    def __init__(self, model: str, sequence_id: int | str) -> None:
        """Name a sequence.

        Raises:
            InvalidRequest: The id is none, or a text that is too long.
            ModelNotFound: No model can have this name.
        """
        if not sequence_id:
            raise InvalidRequest(f"sequence_id: expected a number but 0 or a text, got {sequence_id!r}")
        if isinstance(sequence_id, str):
            kind = "str"
            if len(sequence_id) > ALWAYS_SHORT_CHARS:
                _check_size(sequence_id)
        else:
            kind = "int"
        # A name with a slash could make the key that a text with a slash makes under another name.
        if "/" in model or len(model) > MAX_MODEL_NAME_CHARS:
            raise ModelNotFound(f"no model {model[:MAX_MODEL_NAME_CHARS]!r}")
        self.model = model
        self.id = sequence_id
        self.session_id = f"{RESERVED}{model}/{kind}/{sequence_id}"

    def __str__(self) -> str:
        return f"sequence {self.id!r} of model {self.model!r}"


def _check_size(text: str) -> None:
    size = len(text.encode())
    if size > MAX_TEXT_BYTES:
        raise InvalidRequest(f"sequence_id: expected at most {MAX_TEXT_BYTES} bytes of UTF-8, got {size}")
