"""What one server holds and takes at a time (promise P5)."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.errors import TooManyRequests
from tidegate.telemetry.metrics import Metrics

MAX_SESSION_ID_BYTES = 128
MAX_CLIENT_INSTANCE_BYTES = 64


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
    max_tombstones: int
    detached_idle_timeout_s: float
    retry_after_s: float


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
