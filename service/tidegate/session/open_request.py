"""What a client asks for when it opens sessions, what it is told, and what forbids it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from tidegate.engine.pool import LoadedModel
from tidegate.errors import InvalidRequest, ModelMismatch
from tidegate.protocol.resume import UNSET
from tidegate.session.choosing import Reach
from tidegate.session.frames import Refusals
from tidegate.session.limits import MAX_MODEL_FIELD_CHARS, MAX_SESSION_ID_BYTES
from tidegate.session.sequences.key import MAX_KEY_BYTES, RESERVED
from tidegate.session.stores.changes import ModelKey


class OpenMode(IntEnum):
    """Numbered as on the wire."""

    CREATE = 1
    RESUME = 2
    CREATE_OR_RESUME = 3


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """What a client asks for.

    Attributes:
        model: Name of the model; "" with RESUME: whatever the session is pinned to.
        version: Its version; "" or "latest": the newest.
        sha256: Hash that the client expects; "" for any.
        have: Per session, steps before this one are answered at the client; None for "unset".
        held_from: Per session, the first input that the client can still send; None for "unset".
        epochs: Per session, the epoch that the client was told last; 0 for "unset".
        client_instance: Random bytes of the client; b"" for a client that has none.
        attempt: The client's connection count.
    """

    model: str
    version: str
    sha256: str
    mode: OpenMode
    session_ids: list[str]
    have: list[int | None]
    held_from: list[int | None]
    epochs: list[int]
    client_instance: bytes
    attempt: int

    def reach(self, i: int) -> Reach:
        """From where on the client can go on with the i-th session."""
        have, held_from = self.have[i], self.held_from[i]
        return Reach(UNSET if have is None else have, UNSET if held_from is None else held_from)


@dataclass(slots=True)
class OpenResult:
    """What became of each session, by its position in the request.

    Attributes:
        models: The version that each is pinned to; None where refused.
        handles: 0 where refused.
        next_steps: The step that each waits for.
        durable_steps: Steps of each that the store has.
        epochs: Of each.
    """

    models: list[LoadedModel | None]
    handles: list[int]
    next_steps: list[int]
    durable_steps: list[int]
    epochs: list[int]
    errors: Refusals = field(default_factory=dict)


def check_session_id(session_id: str) -> None:
    """Raise InvalidRequest if this can be no session's id, a sequence's included."""
    size = len(session_id.encode())
    limit = MAX_KEY_BYTES if session_id.startswith(RESERVED) else MAX_SESSION_ID_BYTES
    if not 1 <= size <= limit:
        raise InvalidRequest(f"session_id: expected 1 to {limit} bytes of UTF-8, got {size}")


def check_own_id(session_id: str) -> None:
    """Raise InvalidRequest if this can be no session's id, or is one that only a sequence has.

    A sequence may be looked at, forked from and ended by its id. Who steps it or begins it must keep its rules.
    """
    check_session_id(session_id)
    if session_id.startswith(RESERVED):
        raise InvalidRequest(
            f"session_id: expected none that begins with {RESERVED!r}, which sequences of the Open Inference door "
            f"have; got {session_id!r}"
        )


def check_model(name: str, version: str, sha256: str = "") -> None:
    """Raise InvalidRequest if these can be no model's name, version and hash."""
    for field_name, text in (("name", name), ("version", version), ("sha256", sha256)):
        if len(text) > MAX_MODEL_FIELD_CHARS:
            raise InvalidRequest(
                f"model.{field_name}: expected at most {MAX_MODEL_FIELD_CHARS} characters, got {len(text)}"
            )


def check_version(request: OpenRequest, pinned_to: ModelKey) -> None:
    """Refuse a session of another model, version or hash than the request names."""
    wanted: list[tuple[str, str, str, Callable[[str], bool]]] = [
        ("model.name", request.model, pinned_to.name, lambda _: True),
        ("model.version", request.version, pinned_to.version, lambda v: v != "latest"),
        ("model.sha256", request.sha256, pinned_to.sha256, lambda _: True),
    ]
    for name, asked, pinned, counts in wanted:
        if asked and counts(asked) and asked != pinned:
            raise ModelMismatch(f"{name}: the session is pinned to {pinned!r}, got {asked!r}")
