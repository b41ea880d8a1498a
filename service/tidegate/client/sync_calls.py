"""Single calls for code without asyncio; see `client/calls.py` for arguments, answers and errors."""

from __future__ import annotations

from tidegate.client.calls import ModelCalls, SessionCalls
from tidegate.client.codec import Inputs
from tidegate.client.forecasts import Forecast
from tidegate.client.inspection import Inspection
from tidegate.client.portal import Portal
from tidegate.client.session_info import SessionInfo
from tidegate.client.signature import ModelInfo


class SyncModelCalls:
    """`ModelCalls` without asyncio."""

    def __init__(self, portal: Portal, calls: ModelCalls) -> None:
        self._portal = portal
        self._calls = calls

    def list(self, name: str = "") -> list[ModelInfo]:
        """As `ModelCalls.list`."""
        return self._portal.run(self._calls.list(name))

    def get(self, name: str, version: str = "latest") -> ModelInfo:
        """As `ModelCalls.get`."""
        return self._portal.run(self._calls.get(name, version))

    def load(self, name: str, version: str = "latest") -> ModelInfo:
        """As `ModelCalls.load`."""
        return self._portal.run(self._calls.load(name, version))

    def unload(self, name: str, version: str) -> None:
        """As `ModelCalls.unload`."""
        self._portal.run(self._calls.unload(name, version))


class SyncSessionCalls:
    """`SessionCalls` without asyncio."""

    def __init__(self, portal: Portal, calls: SessionCalls) -> None:
        self._portal = portal
        self._calls = calls

    def get(self, session_id: str) -> SessionInfo:
        """As `SessionCalls.get`."""
        return self._portal.run(self._calls.get(session_id))

    def list(self, model: str = "", *, limit: int | None = None) -> list[SessionInfo]:
        """As `SessionCalls.list`."""
        return self._portal.run(self._calls.list(model, limit=limit))

    def close(self, session_id: str) -> int:
        """As `SessionCalls.close`."""
        return self._portal.run(self._calls.close(session_id))

    def inspect(self, session_id: str, inputs: Inputs, *, timeout_s: float | None = None) -> Inspection:
        """As `SessionCalls.inspect`."""
        return self._portal.run(self._calls.inspect(session_id, inputs, timeout_s=timeout_s))

    def forecast(
        self, session_id: str, num_steps: int, future: Inputs | None = None, *, timeout_s: float | None = None
    ) -> Forecast:
        """As `SessionCalls.forecast`."""
        return self._portal.run(self._calls.forecast(session_id, num_steps, future, timeout_s=timeout_s))

    def export_snapshot(self, session_id: str) -> bytes:
        """As `SessionCalls.export_snapshot`."""
        return self._portal.run(self._calls.export_snapshot(session_id))

    def import_snapshot(self, snapshot: bytes, session_id: str = "") -> SessionInfo:
        """As `SessionCalls.import_snapshot`."""
        return self._portal.run(self._calls.import_snapshot(snapshot, session_id))

    def fork(self, session_id: str, new_session_id: str) -> SessionInfo:
        """As `SessionCalls.fork`."""
        return self._portal.run(self._calls.fork(session_id, new_session_id))
