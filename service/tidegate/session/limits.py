"""What one server holds and takes at a time (promise P5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tidegate.errors import MessageTooLarge, TooManyRequests
from tidegate.model.manifest import Manifest
from tidegate.telemetry.metrics import Metrics
from tidegate.tensor import num_elements

Durability = Literal["before-answer", "background"]
"""When the answers of sequences may leave: once their states are stored, or at once."""

MAX_SESSION_ID_BYTES = 128
MAX_CLIENT_INSTANCE_BYTES = 64
MAX_MODEL_FIELD_CHARS = 255
"""Of a model's name, version and hash in a request: errors quote them, one for every session named."""


@dataclass(frozen=True, kw_only=True)
class SessionLimits:
    """An operator's settings, as far as sessions know them; see `config.ServerSettings`."""

    max_frame_rows: int
    max_frame_steps: int
    max_message_bytes: int
    max_frames_in_flight: int
    max_open_sessions: int
    max_pending_bytes: int
    max_streams: int
    detached_idle_timeout_s: float
    expire_after_s: float
    checkpoint_age_s: float
    checkpoint_bytes_per_s: int
    sequence_durability: Durability
    retry_after_s: float


def check_answers(
    manifest: Manifest, num_steps: int, limits: SessionLimits, *, widen_to_bytes: int = 0
) -> None:
    """Refuse steps whose answers could not be sent: they would be applied, and the answers lost.

    Args:
        manifest: Says what a step answers.
        num_steps: Steps whose answers share a message, of all rows together.
        limits: With the size of a message.
        widen_to_bytes: Least size of an element in the message.

    Raises:
        MessageTooLarge: The answers do not fit into one message.
    """
    step_bytes = sum(
        num_elements(o.step_shape) * max(o.dtype.numpy.itemsize, widen_to_bytes) for o in manifest.outputs
    )
    if num_steps * step_bytes > limits.max_message_bytes:
        raise MessageTooLarge(
            f"outputs: expected answers of at most {limits.max_message_bytes} bytes in one message, "
            f"{num_steps} steps of {manifest.label} would have {num_steps * step_bytes}"
        )


class ByteBudget:
    """Bytes of inputs and unsent answers that all clients together may leave in memory."""

    def __init__(self, limits: SessionLimits, metrics: Metrics) -> None:
        self._limit_bytes = limits.max_pending_bytes
        self._retry_after_s = limits.retry_after_s
        self._held_bytes = 0
        metrics.pending_bytes.set_function(lambda: self._held_bytes)

    def take(self, num_bytes: int) -> None:
        """Count bytes of a request that is accepted.

        Raises:
            TooManyRequests: They do not fit; nothing was counted.
        """
        if self._held_bytes + num_bytes > self._limit_bytes:
            raise TooManyRequests(
                f"{num_bytes} bytes more than the {self._held_bytes} that wait would pass max_pending_bytes "
                f"({self._limit_bytes})",
                retry_after_s=self._retry_after_s,
            )
        self._held_bytes += num_bytes

    def add(self, num_bytes: int) -> None:
        """Count bytes of an answer; its request was accepted, so it is never refused."""
        self._held_bytes += num_bytes

    def give_back(self, num_bytes: int) -> None:
        """The bytes are gone."""
        self._held_bytes -= num_bytes
        assert self._held_bytes >= 0, "bytes were given back twice"
