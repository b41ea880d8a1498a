"""The client: numpy in, numpy out; sessions whose state the server keeps.

`AsyncClient` for asyncio, `Client` for plain code. Errors are those of `tidegate.errors` and the few
that only a client can meet, listed in `tidegate.client.errors`.
"""

from tidegate.client.aio import AsyncClient
from tidegate.client.calls import StepAnswer
from tidegate.client.channel import ChannelOptions
from tidegate.client.errors import (
    AnswerLost,
    BufferFull,
    CallTimedOut,
    FleetError,
    RemoteError,
    StreamLost,
)
from tidegate.client.fleet import Fleet
from tidegate.client.forecasts import Forecast
from tidegate.client.inspection import Inspection, LayerTrace
from tidegate.client.recovery import RecoveryOptions
from tidegate.client.session import Session
from tidegate.client.session_info import SessionInfo
from tidegate.client.signature import ModelInfo, TensorSpec
from tidegate.client.sync import Client, SyncFleet, SyncSession
from tidegate.model.calendar_inputs import calendar_inputs, coming_times
from tidegate.model.steps import StepMaker
from tidegate.model.time_rules import TimeRules

__all__ = [
    "AnswerLost",
    "AsyncClient",
    "BufferFull",
    "CallTimedOut",
    "ChannelOptions",
    "Client",
    "Fleet",
    "FleetError",
    "Forecast",
    "Inspection",
    "LayerTrace",
    "ModelInfo",
    "RecoveryOptions",
    "RemoteError",
    "Session",
    "SessionInfo",
    "StepAnswer",
    "StepMaker",
    "StreamLost",
    "SyncFleet",
    "SyncSession",
    "TensorSpec",
    "TimeRules",
    "calendar_inputs",
    "coming_times",
]
