"""The client for code without asyncio: the asynchronous one, on an event loop of its own.

    with Client("127.0.0.1:8001") as client, client.session("co2-weekly") as session:
        forecast = session.step(315.7)

Arguments, answers and errors are those of the asynchronous methods with the same names. Any thread
may call; a session's calls run one after another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Self

from tidegate.client.acks import Acks
from tidegate.client.aio import AsyncClient
from tidegate.client.calls import StepAnswer
from tidegate.client.channel import DEFAULT_ADDRESS, ChannelOptions
from tidegate.client.codec import Inputs
from tidegate.client.fleet import Fleet
from tidegate.client.opening import Mode
from tidegate.client.portal import Portal
from tidegate.client.recovery import RecoveryOptions
from tidegate.client.session import Outputs, Session
from tidegate.client.signature import ModelInfo
from tidegate.client.sync_calls import SyncModelCalls, SyncSessionCalls
from tidegate.tensor import Array, IntArray


class SyncSession:
    """`Session` without asyncio; made by `Client.session`."""

    def __init__(self, portal: Portal, session: Session) -> None:
        self._portal = portal
        self._session = session

    @property
    def session_id(self) -> str:
        """As `Session.session_id`."""
        return self._session.session_id

    @property
    def model(self) -> ModelInfo:
        """As `Session.model`."""
        return self._session.model

    @property
    def next_step(self) -> int:
        """As `Session.next_step`."""
        return self._session.next_step

    @property
    def durable_step(self) -> int:
        """As `Session.durable_step`."""
        return self._session.durable_step

    @property
    def is_attached(self) -> bool:
        """As `Session.is_attached`."""
        return self._session.is_attached

    def step(self, x: Inputs, *, timeout_s: float | None = None) -> Array:
        """As `Session.step`."""
        return self._portal.run(self._session.step(x, timeout_s=timeout_s))

    def steps(self, x: Inputs, *, timeout_s: float | None = None) -> Array:
        """As `Session.steps`."""
        return self._portal.run(self._session.steps(x, timeout_s=timeout_s))

    def run(
        self, inputs: Inputs, *, outputs: Outputs = "all", timeout_s: float | None = None
    ) -> dict[str, Array]:
        """As `Session.run`."""
        return self._portal.run(self._session.run(inputs, outputs=outputs, timeout_s=timeout_s))

    def settle(self, *, timeout_s: float | None = None) -> dict[str, Array] | None:
        """As `Session.settle`."""
        return self._portal.run(self._session.settle(timeout_s=timeout_s))

    def ack(self, step: int) -> None:
        """As `Session.ack`."""
        self._portal.do(lambda: self._session.ack(step))

    def flush(self, *, timeout_s: float | None = None) -> None:
        """As `Session.flush`."""
        self._portal.run(self._session.flush(timeout_s=timeout_s))

    def end(self) -> None:
        """As `Session.end`."""
        self._portal.run(self._session.end())


class SyncFleet:
    """`Fleet` without asyncio; made by `Client.fleet`."""

    def __init__(self, portal: Portal, fleet: Fleet) -> None:
        self._portal = portal
        self._fleet = fleet

    def __len__(self) -> int:
        return len(self._fleet)

    @property
    def session_ids(self) -> Sequence[str]:
        """As `Fleet.session_ids`."""
        return self._fleet.session_ids

    @property
    def model(self) -> ModelInfo:
        """As `Fleet.model`."""
        return self._fleet.model

    @property
    def next_steps(self) -> IntArray:
        """As `Fleet.next_steps`."""
        return self._fleet.next_steps

    @property
    def durable_steps(self) -> IntArray:
        """As `Fleet.durable_steps`."""
        return self._fleet.durable_steps

    @property
    def is_attached(self) -> bool:
        """As `Fleet.is_attached`."""
        return self._fleet.is_attached

    def step(self, values: Inputs, *, timeout_s: float | None = None) -> Array:
        """As `Fleet.step`."""
        return self._portal.run(self._fleet.step(values, timeout_s=timeout_s))

    def steps(self, values: Inputs, *, timeout_s: float | None = None) -> Array:
        """As `Fleet.steps`."""
        return self._portal.run(self._fleet.steps(values, timeout_s=timeout_s))

    def run(
        self, inputs: Inputs, *, outputs: Outputs = "all", timeout_s: float | None = None
    ) -> dict[str, Array]:
        """As `Fleet.run`."""
        return self._portal.run(self._fleet.run(inputs, outputs=outputs, timeout_s=timeout_s))

    def settle(self, *, timeout_s: float | None = None) -> dict[str, Array] | None:
        """As `Fleet.settle`."""
        return self._portal.run(self._fleet.settle(timeout_s=timeout_s))

    def ack(self, steps: Sequence[int] | IntArray) -> None:
        """As `Fleet.ack`."""
        self._portal.do(lambda: self._fleet.ack(steps))

    def flush(self, *, timeout_s: float | None = None) -> None:
        """As `Fleet.flush`."""
        self._portal.run(self._fleet.flush(timeout_s=timeout_s))

    def end(self) -> None:
        """As `Fleet.end`."""
        self._portal.run(self._fleet.end())


class Client:
    """`AsyncClient` without asyncio. Use it as `with Client(...)`."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        options: ChannelOptions | None = None,
        recovery: RecoveryOptions | None = None,
    ) -> None:
        """Remember where to connect; nothing is sent before the first call."""
        self._client = AsyncClient(address, options, recovery)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._portal = Portal()
            stack.callback(self._portal.close)
            stack.enter_context(self._portal.entered(self._client))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def models(self) -> SyncModelCalls:
        """As `AsyncClient.models`."""
        return SyncModelCalls(self._portal, self._client.models)

    @property
    def sessions(self) -> SyncSessionCalls:
        """As `AsyncClient.sessions`."""
        return SyncSessionCalls(self._portal, self._client.sessions)

    @contextmanager
    def session(
        self,
        model: str,
        session_id: str | None = None,
        *,
        version: str = "latest",
        mode: Mode = "create-or-resume",
        next_step: int | None = None,
        held_from: int | None = None,
        ack: Acks = "auto",
    ) -> Iterator[SyncSession]:
        """As `AsyncClient.session`."""
        manager = self._client.session(
            model,
            session_id,
            version=version,
            mode=mode,
            next_step=next_step,
            held_from=held_from,
            ack=ack,
        )
        with self._portal.entered(manager) as session:
            yield SyncSession(self._portal, session)

    @contextmanager
    def fleet(
        self,
        model: str,
        session_ids: Sequence[str],
        *,
        version: str = "latest",
        mode: Mode = "create-or-resume",
        next_steps: Sequence[int] | None = None,
        held_from: Sequence[int] | None = None,
        ack: Acks = "auto",
    ) -> Iterator[SyncFleet]:
        """As `AsyncClient.fleet`."""
        manager = self._client.fleet(
            model,
            session_ids,
            version=version,
            mode=mode,
            next_steps=next_steps,
            held_from=held_from,
            ack=ack,
        )
        with self._portal.entered(manager) as fleet:
            yield SyncFleet(self._portal, fleet)

    def flush(self, *, timeout_s: float | None = None) -> None:
        """As `AsyncClient.flush`."""
        self._portal.run(self._client.flush(timeout_s=timeout_s))

    def step_session(
        self,
        session_id: str,
        inputs: Inputs,
        *,
        first_step: int,
        model: str = "",
        version: str = "latest",
        mode: Mode = "resume",
        timeout_s: float | None = None,
    ) -> StepAnswer:
        """As `AsyncClient.step_session`."""
        return self._portal.run(
            self._client.step_session(
                session_id,
                inputs,
                first_step=first_step,
                model=model,
                version=version,
                mode=mode,
                timeout_s=timeout_s,
            )
        )
