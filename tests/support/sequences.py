"""Requests of sequences as the foreign clients take them, and what their answers mean.

`decay` is h' = h / 2 + x, y = h': fed with ones, its answers 1, 1.5, 1.75 … tell how many steps a state has had.
"""

from __future__ import annotations

from typing import Any

Request = dict[str, Any]
Answer = dict[str, Any]

ONES = [[1.0] * 4]
AFTER_STEPS = (1.0, 1.5, 1.75, 1.875, 1.9375)
"""What `decay` answers to its steps, if it is fed with ones."""


def step(sequence_id: int | str, *, model: str = "decay", x: object = ONES, **fields: object) -> Request:
    """The next step of a sequence."""
    return {"model": model, "x": x, "sequence_id": sequence_id, **fields}


def start(sequence_id: int | str, **fields: object) -> Request:
    """The first step of a sequence."""
    return step(sequence_id, sequence_start=True, **fields)


def end(sequence_id: int | str, **fields: object) -> Request:
    """The last step of a sequence."""
    return step(sequence_id, sequence_end=True, **fields)


def states(answers: list[Answer]) -> list[object]:
    """Per answer of `decay`, how many steps its state has had, or the code that it was refused with."""
    return [code(a) if "error" in a else AFTER_STEPS.index(a["y"][-1]) + 1 for a in answers]


def steps(answers: list[Answer]) -> list[object]:
    """Per answer, the number of its first step, or the code that it was refused with."""
    return [code(a) if "error" in a else a["step"] for a in answers]


def code(answer: Answer) -> str:
    """The canonical code of a refusal: of a call in its status, on a stream in front of its text."""
    status, text = answer["status"], answer["error"]
    return str(text).partition(":")[0] if status is None else str(status).removeprefix("StatusCode.")
