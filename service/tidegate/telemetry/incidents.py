"""Exceptions that nobody expected: the log gets them with an id, the caller gets the id."""

from __future__ import annotations

import logging
import secrets

from tidegate.errors import InternalError

log = logging.getLogger(__name__)


def incident(error: BaseException) -> InternalError:
    """Log an unexpected exception under a fresh id.

    Returns:
        The error for the caller, whose text holds the id and nothing of the exception.
    """
    incident_id = secrets.token_hex(4)
    log.error("unexpected exception", exc_info=error, extra={"incident_id": incident_id})
    return InternalError(
        f"internal error; quote incident {incident_id} to the operator of the server", incident_id=incident_id
    )
