"""Every error a caller can see.

* TidegateError
  + InvalidRequest        INVALID_ARGUMENT     change the request
  + PackageError          FAILED_PRECONDITION  mend the model package
  + DeviceUnavailable     FAILED_PRECONDITION  install the provider or choose another device
  + ModelError
    - ModelNotFound       NOT_FOUND            choose a model that the repository has
    - ModelInUse          FAILED_PRECONDITION  close its sessions first
    - ModelMismatch       FAILED_PRECONDITION  open the session with the version it is pinned to
  + SessionError
    - SessionNotFound     NOT_FOUND            open a new session
    - SessionExists       ALREADY_EXISTS       resume it or choose another id
    - SessionBusy         FAILED_PRECONDITION  a stream holds it: step there, or resume it
    - SessionLost         DATA_LOSS            create it again, knowing what was lost
    - WrongStep           FAILED_PRECONDITION  send again from `expected_step`
    - SessionNotStarted   FAILED_PRECONDITION  step it first
    - Displaced           ABORTED              another stream has the session: stop
    - StaleAttempt        ABORTED              a newer connection of this client exists: stop
  + CapacityError
    - ArenaFull           RESOURCE_EXHAUSTED   back off, then retry
    - TooManyRequests     RESOURCE_EXHAUSTED   wait for answers, then send more
    - MessageTooLarge     RESOURCE_EXHAUSTED   send smaller frames
    - StoreFull           RESOURCE_EXHAUSTED   end sessions, or raise `max_stored_sessions`
  + DeadlineExpired       DEADLINE_EXCEEDED    the step was not applied: send it again
  + ServerStopping        UNAVAILABLE          connect again
  + StoreUnavailable      UNAVAILABLE          back off, then retry: the store cannot be read or written
  + ConnectionLost        UNAVAILABLE          the transport failed: connect again
  + ControlDisabled       PERMISSION_DENIED    ask the operator: clients may not load or unload models
  + Unsupported           UNIMPLEMENTED        do without
  + ConfigError           INVALID_ARGUMENT     change the settings
  + InternalError         INTERNAL             quote `incident_id` to the operator

An error is raised where it is found and mapped to the wire in one place, `rpc/`; the client turns it back into the
same class by its `reason`. An error knows the facts that a program needs to go on (`expected_step`, ...); the text
is for people and names field, expected and got.
"""

from __future__ import annotations

from typing import ClassVar


class TidegateError(Exception):
    """Base of all errors that tidegate raises on purpose.

    Attributes:
        code: Name of the canonical gRPC code.
        reason: Stable UPPER_SNAKE_CASE name for programs.
        retry_after_s: Earliest time to try again, in seconds; None if trying again as is cannot help.
        fact_names: Attributes that are facts.
    """

    code: ClassVar[str] = "UNKNOWN"
    reason: ClassVar[str] = "UNKNOWN"
    retry_after_s: float | None = None
    fact_names: ClassVar[tuple[str, ...]] = ()

    @property
    def facts(self) -> dict[str, int | str]:
        """What a program needs to go on, as it travels in the error's details."""
        return {name: getattr(self, name) for name in self.fact_names}


class InvalidRequest(TidegateError):
    """The request can never succeed as it is."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_REQUEST"


class PackageError(TidegateError):
    """A model package does not hold what its manifest says."""

    code = "FAILED_PRECONDITION"
    reason = "BAD_PACKAGE"


class DeviceUnavailable(TidegateError):
    """The device that was asked for cannot run models here."""

    code = "FAILED_PRECONDITION"
    reason = "DEVICE_UNAVAILABLE"


class ModelError(TidegateError):
    """Something is wrong with the choice of a model."""


class ModelNotFound(ModelError):
    """The repository has no such model or version."""

    code = "NOT_FOUND"
    reason = "MODEL_NOT_FOUND"


class ModelInUse(ModelError):
    """Sessions in memory still need the version."""

    code = "FAILED_PRECONDITION"
    reason = "MODEL_IN_USE"


class ModelMismatch(ModelError):
    """The session, or the bytes on the server, are of another version than the one named."""

    code = "FAILED_PRECONDITION"
    reason = "MODEL_MISMATCH"


class SessionError(TidegateError):
    """Something is wrong with one session; its neighbours go on."""


class SessionNotFound(SessionError):
    """No session has this id, or no session this handle."""

    code = "NOT_FOUND"
    reason = "SESSION_NOT_FOUND"


class SessionExists(SessionError):
    """A session with this id exists already."""

    code = "ALREADY_EXISTS"
    reason = "SESSION_EXISTS"


class SessionBusy(SessionError):
    """A stream holds the session, so a single call must not step it."""

    code = "FAILED_PRECONDITION"
    reason = "SESSION_BUSY"


class SessionLost(SessionError):
    """The state that is asked for exists nowhere any more.

    Attributes:
        next_step: Number of steps that had been applied.
        durable_step: Number of steps that are safe in the store.
    """

    code = "DATA_LOSS"
    reason = "SESSION_LOST"
    fact_names = ("next_step", "durable_step")

    def __init__(self, message: str, *, next_step: int = 0, durable_step: int = 0) -> None:
        super().__init__(message)
        self.next_step = next_step
        self.durable_step = durable_step


class WrongStep(SessionError):
    """A step arrived whose number is not the next one.

    Attributes:
        expected_step: Number of the step that the session waits for.
    """

    code = "FAILED_PRECONDITION"
    reason = "WRONG_STEP"
    fact_names = ("expected_step",)

    def __init__(self, message: str, *, expected_step: int) -> None:
        super().__init__(message)
        self.expected_step = expected_step


class SessionNotStarted(SessionError):
    """The session has had no step yet, and the call needs one."""

    code = "FAILED_PRECONDITION"
    reason = "SESSION_NOT_STARTED"


class Displaced(SessionError):
    """Another stream has resumed the session; final for this one.

    Attributes:
        next_step: Number of steps that had been applied.
    """

    code = "ABORTED"
    reason = "DISPLACED"
    fact_names = ("next_step",)

    def __init__(self, message: str, *, next_step: int = 0) -> None:
        super().__init__(message)
        self.next_step = next_step


class StaleAttempt(SessionError):
    """A newer connection of the same client instance has been seen."""

    code = "ABORTED"
    reason = "STALE_ATTEMPT"


class CapacityError(TidegateError):
    """A limit that the operator set is reached; nothing was applied."""

    code = "RESOURCE_EXHAUSTED"
    reason = "CAPACITY"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ArenaFull(CapacityError):
    """No slot is free for another session."""

    reason = "ARENA_FULL"


class TooManyRequests(CapacityError):
    """Too much is waiting already, on this stream or in total."""

    reason = "TOO_MANY_REQUESTS"


class MessageTooLarge(CapacityError):
    """A message has more rows, steps, sessions or bytes than the server takes at a time."""

    reason = "MESSAGE_TOO_LARGE"


class StoreFull(CapacityError):
    """As many sessions are known as the operator allows."""

    reason = "STORE_FULL"


class DeadlineExpired(TidegateError):
    """The time limit passed before the step started; it was not applied."""

    code = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXPIRED"


class ServerStopping(TidegateError):
    """The server drains and accepts nothing new."""

    code = "UNAVAILABLE"
    reason = "SERVER_STOPPING"
    retry_after_s = 1.0


class StoreUnavailable(TidegateError):
    """The store failed at something that cannot be done without it; nothing was changed."""

    code = "UNAVAILABLE"
    reason = "STORE_UNAVAILABLE"
    retry_after_s = 1.0


class ConnectionLost(TidegateError):
    """The connection to the server failed; what was sent may or may not have been applied."""

    code = "UNAVAILABLE"
    reason = "CONNECTION_LOST"


class ControlDisabled(TidegateError):
    """The operator does not let clients load and unload models."""

    code = "PERMISSION_DENIED"
    reason = "CONTROL_DISABLED"


class Unsupported(TidegateError):
    """The server, or this model's graph, does not offer this."""

    code = "UNIMPLEMENTED"
    reason = "UNSUPPORTED"


class ConfigError(TidegateError):
    """A setting, flag, recipe key or input file is not usable."""

    code = "INVALID_ARGUMENT"
    reason = "BAD_CONFIG"


class InternalError(TidegateError):
    """Something failed that should not; the server's log has the rest under the id.

    Attributes:
        incident_id: Names the log entry.
    """

    code = "INTERNAL"
    reason = "INTERNAL"
    fact_names = ("incident_id",)

    def __init__(self, message: str, *, incident_id: str = "") -> None:
        super().__init__(message)
        self.incident_id = incident_id
