"""Who may open a session: what its life, its version, its clients and its epoch allow."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tidegate.errors import SessionNotFound, StaleAttempt
from tidegate.protocol.lifecycle import Event
from tidegate.protocol.resume import NO_EPOCH, EpochVerdict, epoch_error, judge_epochs
from tidegate.session.finding import Finder, Known
from tidegate.session.open_request import OpenMode, OpenRequest, check_version
from tidegate.session.registry import Place
from tidegate.session.stores.changes import ModelKey
from tidegate.session.stores.store import StoredSession


class _Past(NamedTuple):
    """What is remembered of a known session and its clients."""

    model: ModelKey
    creator: bytes
    opener: bytes
    attempt: int
    epoch: int
    next_step: int
    durable_step: int


def admit(finder: Finder, request: OpenRequest, i: int, known: Known) -> None:
    """Raise what forbids opening the i-th session of a request.

    Raises:
        SessionExists: It is to be created, and exists.
        SessionNotFound: It is to be resumed, and does not.
        SessionLost: Its state was given up, or the store has fallen behind what the client was told.
        ModelMismatch: It is pinned to another version than the one named.
        StaleAttempt: The same client has tried again since.
        Displaced: Another client has taken it over since.
    """
    session_id = request.session_ids[i]
    past = None if known is None else _past(known)
    finder.require(session_id, known, _event(request, past))
    if past is not None:
        check_version(request, past.model)
        _check_attempt(request, past)
        _check_epoch(request, i, past)
    elif request.mode is OpenMode.CREATE_OR_RESUME and (request.have[i] or 0) > 0:
        raise SessionNotFound(
            f"no session {session_id!r}, and it is not created for a client that has answers before {request.have[i]}"
        )


def _past(known: Place | StoredSession) -> _Past:
    if isinstance(known, StoredSession):
        return _Past(
            known.model,
            known.creator,
            known.opener,
            known.attempt,
            known.epoch,
            known.next_step,
            known.durable_step,
        )
    table, slot = known
    return _Past(
        table.key,
        table.creator[slot],
        table.opener[slot],
        int(table.attempt[slot]),
        int(table.epoch[slot]),
        known.next_step,
        int(table.books.base_step[slot]),
    )


def _event(request: OpenRequest, past: _Past | None) -> Event:
    if past is None:
        return Event.RESUME if request.mode is OpenMode.RESUME else Event.CREATE
    is_resent = bool(request.client_instance) and past.creator == request.client_instance
    return Event.CREATE if request.mode is OpenMode.CREATE and not is_resent else Event.RESUME


def _is_opener(request: OpenRequest, past: _Past) -> bool:
    """Whether it is the client that opened the session last; clients without an instance are never the same."""
    return bool(request.client_instance) and past.opener == request.client_instance


def _check_attempt(request: OpenRequest, past: _Past) -> None:
    if _is_opener(request, past) and request.attempt < past.attempt:
        raise StaleAttempt(f"attempt: expected at least {past.attempt}, got {request.attempt}")


def _check_epoch(request: OpenRequest, i: int, past: _Past) -> None:
    told = request.epochs[i]
    if told in (NO_EPOCH, past.epoch):
        return
    is_opener = np.array([_is_opener(request, past)])
    verdict = int(judge_epochs(np.array([past.epoch]), np.array([told]), is_opener)[0])
    if verdict != EpochVerdict.CURRENT:
        raise epoch_error(
            verdict, request.session_ids[i], past.epoch, told, past.next_step, past.durable_step
        )
