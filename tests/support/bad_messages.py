"""Messages that a server must refuse, each with what the client must be told.

To add a case, add one entry to `ROWS` (one row is bad, its neighbour in the same frame is good) or to
`MESSAGES` (a whole message is refused). The limits are those of `LIMITS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.rpc.code_pb2 import Code

from support.ids import new_id
from support.raw_stream import Floats, frame
from tidegate.v1 import stream_pb2 as pb
from tidegate.v1.error_pb2 import Error
from tidegate.v1.model_pb2 import ModelVersion

BEFORE = 3
"""Steps of both sessions before the bad message."""

LIMITS = ("--max-frame-rows=4", "--max-frame-steps=64", "--max-open-sessions=4", "--max-message-bytes=8192")


@dataclass(frozen=True)
class Scene:
    """Two sessions of one stream, both at step `BEFORE`; x: inputs of both, [2, 6, 3]."""

    victim: int
    neighbour: int
    x: Floats

    @property
    def next_x(self) -> Floats:
        return self.x[:, BEFORE:]

    def frame(self, **fields: Any) -> dict[str, Any]:
        """A good frame of the victim, but for `fields`; nobody else uses its number."""
        return {"frame": frame(10**6, [self.victim], [BEFORE], self.next_x[:1], **fields)}

    def open(self, **fields: Any) -> dict[str, Any]:
        """A good open, but for `fields`."""
        lstm = ModelVersion(name="lstm")
        good = {"model": lstm, "mode": "OPEN_MODE_CREATE", "session_ids": [new_id("never")]}
        return {"open": pb.Open(open_id=10**6, **(good | fields))}


@dataclass(frozen=True)
class Refusal:
    """What the client must be told."""

    code: str
    reason: str
    texts: tuple[str, ...]
    facts: dict[str, int] | None = None

    def check(self, error: Error) -> None:
        assert (Code.Name(error.code), error.reason) == (self.code, self.reason), error
        assert [t for t in self.texts if not re.search(t, error.message)] == [], error.message
        assert {key: getattr(error, key) for key in self.facts or {}} == (self.facts or {})


@dataclass(frozen=True)
class BadRow:
    """`change` turns the victim's good row into a bad one: (handle, first step, values [3, 3])."""

    refusal: Refusal
    change: Callable[[Scene, Floats], tuple[int, int, Floats]]
    model: str = "lstm"


def invalid(*texts: str) -> Refusal:
    return Refusal("INVALID_ARGUMENT", "INVALID_REQUEST", texts)


def wrong_step(*texts: str) -> Refusal:
    return Refusal("FAILED_PRECONDITION", "WRONG_STEP", ("expected 3", *texts), {"expected_step": 3})


def too_large(*texts: str) -> Refusal:
    return Refusal("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE", texts)


def unknown_handle(handle: int) -> Refusal:
    return Refusal("NOT_FOUND", "SESSION_NOT_FOUND", (f"handle {handle}", "open one first"))


def with_value(value: float) -> Callable[[Scene, Floats], tuple[int, int, Floats]]:
    """The victim's row with one value replaced, in its second step and third feature."""

    def change(scene: Scene, row: Floats) -> tuple[int, int, Floats]:
        row[1, 2] = value
        return scene.victim, BEFORE, row

    return change


def begins_at(first_step: int) -> Callable[[Scene, Floats], tuple[int, int, Floats]]:
    return lambda scene, row: (scene.victim, first_step, row)


ROWS = {
    "NaN": BadRow(invalid(r"'x'\[2\] of step 1", "expected a finite value", "got nan"), with_value(np.nan)),
    "infinity": BadRow(invalid(r"'x'\[2\] of step 1", "finite", "got inf"), with_value(np.inf)),
    "minus infinity": BadRow(invalid("finite", "got -inf"), with_value(-np.inf)),
    "infinity where missing is accepted": BadRow(
        invalid("expected a finite value or NaN", "got -inf"), with_value(-np.inf), model="last-value"
    ),
    "duplicate steps": BadRow(wrong_step("got 0", "had been accepted before"), begins_at(0)),
    "overlapping steps": BadRow(wrong_step("got 2", "steps 2 to 4 begin before"), begins_at(2)),
    "a gap": BadRow(wrong_step("got 7", "steps 7 to 9 would leave a gap"), begins_at(7)),
    "a handle never given out": BadRow(unknown_handle(77), lambda s, row: (77, BEFORE, row)),
    "handle 0": BadRow(unknown_handle(0), lambda s, row: (0, BEFORE, row)),
    "the greatest handle": BadRow(unknown_handle(2**32 - 1), lambda s, row: (2**32 - 1, BEFORE, row)),
}


MESSAGES: dict[str, tuple[Refusal, Callable[[Scene], dict[str, Any]]]] = {
    "one feature too few": (
        invalid("'x' expected 36 bytes", r"float32 \[1, 3, 3\]", "got 24"),
        lambda s: s.frame(inputs=[s.next_x[:1, :, :2].tobytes()]),
    ),
    "another element type": (
        invalid("expected 36 bytes for float32", "got 72"),
        lambda s: s.frame(inputs=[s.next_x[:1].astype("<f8").tobytes()]),
    ),
    "half an element": (invalid("expected 36 bytes", "got 34"), lambda s: s.frame(inputs=[bytes(34)])),
    "no input": (invalid(r"lstm/1 takes 1 \('x'\)", "got 0"), lambda s: s.frame(inputs=[])),
    "an input too many": (invalid("takes 1", "got 2"), lambda s: s.frame(inputs=[bytes(36)] * 2)),
    "T = 0": (
        invalid("num_steps: expected at least 1, got 0"),
        lambda s: s.frame(num_steps=0, inputs=[b""]),
    ),
    "no rows": (
        invalid("handles: expected at least one row, got none"),
        lambda s: {"frame": pb.Frame(frame_id=10**6, num_steps=1, inputs=[b""])},
    ),
    "no step number": (
        invalid(r"first_steps: expected one number per row \(1\), got 0"),
        lambda s: {
            "frame": frame(10**6, [s.victim], [], s.next_x[:1]),
        },
    ),
    "a step number too many": (
        invalid("first_steps: expected one number per row", "got 2"),
        lambda s: {"frame": frame(10**6, [s.victim], [BEFORE] * 2, s.next_x[:1])},
    ),
    "a step number past all bounds": (
        invalid("first_steps: expected step numbers up to", f"got {2**64 - 1}"),
        lambda s: {"frame": frame(10**6, [s.victim], [2**64 - 1], s.next_x[:1])},
    ),
    "an unknown output selection": (
        invalid("outputs: expected ALL, LAST or NONE, got 9"),
        lambda s: s.frame(outputs=9),
    ),
    "too many rows": (
        too_large("handles: expected at most 4 rows, got 5"),
        lambda s: {"frame": frame(10**6, [s.victim, 50, 51, 52, 53], [BEFORE] * 5, np.ones((5, 1, 3)))},
    ),
    "too many steps": (
        too_large("num_steps: expected at most 64, got 65"),
        lambda s: {"frame": frame(10**6, [s.victim], [BEFORE], np.ones((1, 65, 3)))},
    ),
    "more steps than any memory": (
        too_large(f"num_steps: expected at most 64, got {2**32 - 1}"),
        lambda s: s.frame(num_steps=2**32 - 1),
    ),
    "open: unset mode": (
        invalid("mode: expected CREATE, RESUME or CREATE_OR_RESUME, got 0"),
        lambda s: s.open(mode="OPEN_MODE_UNSPECIFIED"),
    ),
    "open: unknown model": (
        Refusal("NOT_FOUND", "MODEL_NOT_FOUND", ("'tides'", "the repository has: decay, last-value, lstm")),
        lambda s: s.open(model=ModelVersion(name="tides")),
    ),
    "open: a path for a model": (
        Refusal("NOT_FOUND", "MODEL_NOT_FOUND", (r"'\.\./lstm'",)),
        lambda s: s.open(model=ModelVersion(name="../lstm")),
    ),
    "open: unknown version": (
        Refusal("NOT_FOUND", "MODEL_NOT_FOUND", ("version '7' of model 'lstm'", "the repository has: 1")),
        lambda s: s.open(model=ModelVersion(name="lstm", version="7")),
    ),
    "open: another hash": (
        Refusal("FAILED_PRECONDITION", "MODEL_MISMATCH", ("sha256: lstm/1 is", "the client has abc")),
        lambda s: s.open(model=ModelVersion(name="lstm", sha256="abc")),
    ),
    "open: no model": (
        invalid("model.name: expected the name of a model, got an empty one"),
        lambda s: s.open(model=ModelVersion()),
    ),
    "open: no session": (
        invalid("session_ids: expected at least one, got none"),
        lambda s: s.open(session_ids=[]),
    ),
    "open: an empty session id": (
        invalid("session_id: expected 1 to 128 bytes of UTF-8, got 0"),
        lambda s: s.open(session_ids=[""]),
    ),
    "open: a session id too long in bytes": (
        invalid("session_id: expected 1 to 128 bytes of UTF-8, got 129"),
        lambda s: s.open(session_ids=["é" * 64 + "!"]),
    ),
    "open: too many sessions": (
        too_large("session_ids: expected at most 4, got 5"),
        lambda s: s.open(session_ids=[new_id() for _ in range(5)]),
    ),
    "open: an unknown session": (
        Refusal("NOT_FOUND", "SESSION_NOT_FOUND", ("no session 'nobody'",)),
        lambda s: s.open(mode="OPEN_MODE_RESUME", session_ids=["nobody"]),
    ),
    "open: have of another length": (
        invalid(r"have: expected none or one per session \(1\), got 2"),
        lambda s: s.open(have=[0, 0]),
    ),
    "open: held_from of another length": (
        invalid("held_from: expected none or one per session", "got 3"),
        lambda s: s.open(held_from=[0, 0, 0]),
    ),
    "open: a client instance too long": (
        invalid("client_instance: expected at most 64 bytes, got 65"),
        lambda s: s.open(client_instance=bytes(65)),
    ),
    "close: unset mode": (
        invalid("mode: expected DETACH or END, got 0"),
        lambda s: {"close": pb.Close(close_id=10**6, handles=[s.victim])},
    ),
    "close: unknown handle": (
        unknown_handle(99),
        lambda s: {"close": pb.Close(close_id=10**6, mode="CLOSE_MODE_END", handles=[99])},
    ),
    "ack: unknown handle": (unknown_handle(99), lambda s: {"ack": pb.Ack(handles=[99], steps=[0])}),
    "ack: no step": (
        invalid(r"ack.steps: expected one number per handle \(1\), got 0"),
        lambda s: {"ack": pb.Ack(handles=[s.victim])},
    ),
    "ack: a step that was never answered": (
        invalid("ack.steps: step 9 of handle [0-9]+ has not been answered"),
        lambda s: {"ack": pb.Ack(handles=[s.victim], steps=[9])},
    ),
}
