"""The versions of the model `lstm` on a running server, and traffic on one of its sessions."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
from grpc import aio

from support.ids import new_id
from support.onnx_models import lstm_package
from support.raw_stream import Floats, RawStream, connect
from support.waiting import eventually
from tidegate.v1.model_pb2 import (
    GetModelRequest,
    LoadModelRequest,
    Model,
    ModelState,
    ModelVersion,
    UnloadModelRequest,
)
from tidegate.v1.model_pb2_grpc import ModelServiceStub


def publish(models: Path, version: str, **fields: object) -> Path:
    """A further version, with weights of its own, as operations.md says: beside its place, then renamed."""
    return lstm_package(models, version=version, seed=int(version), **fields)


def draw(num_steps: int) -> Floats:
    return np.random.default_rng(1).normal(0, 1, (num_steps, 3)).astype(np.float32)


class Versions:
    """What a server says of the versions, and is told."""

    def __init__(self, channel: aio.Channel) -> None:
        self._channel = channel
        self._stub = ModelServiceStub(channel)

    async def status(self, version: str) -> Model:
        return (await self._stub.GetModel(GetModelRequest(version=_named(version)))).model

    async def load(self, version: str) -> None:
        await self._stub.LoadModel(LoadModelRequest(version=_named(version)))

    async def unload(self, version: str) -> None:
        await self._stub.UnloadModel(UnloadModelRequest(version=_named(version)))

    async def until(self, version: str, state: ModelState) -> Model:
        """Wait until the server shows a version so."""

        async def is_so() -> bool:
            return (await self.status(version)).state == state

        await eventually(is_so)
        return await self.status(version)

    async def latest(self) -> str:
        """The version that a new session gets."""
        async with RawStream(self._channel) as stream:
            opened = await stream.open("lstm", new_id())
            await stream.close(opened.handles)
        return opened.models[0].version

    async def answers(self, version: str, x: Floats) -> Floats:
        """What a fresh session of a version answers to x [steps, 3], in one frame."""
        async with RawStream(self._channel) as stream:
            handles = await stream.handles("lstm", new_id(), version=version)
            reply = await stream.step(handles, [0], x[None])
            await stream.close(handles)
        assert not reply.errors
        return reply.output()[0]


class Traffic:
    """A session of the latest version that is stepped without a pause; use it as `async with Traffic(...)`.

    Attributes:
        answers: Of all its steps so far, in order; leaving the block waits for the last.
    """

    def __init__(self, address: str, session_id: str = "") -> None:
        self.answers: list[Floats] = []
        self._address = address
        self._session_id = session_id or new_id()
        self._x = draw(50)
        self._is_leaving = False

    async def __aenter__(self) -> Traffic:
        self._task = asyncio.create_task(self._step())
        await self.flow(1)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_leaving = True
        await self._task

    async def flow(self, num_steps: int) -> None:
        """Wait for so many more steps."""
        goal = len(self.answers) + num_steps

        async def is_there() -> bool:
            if self._task.done():
                self._task.result()
            return len(self.answers) >= goal

        await eventually(is_there)

    async def flow_for(self, seconds: float) -> None:
        """Let it flow for a while, to see that something does not happen."""
        await asyncio.sleep(seconds)
        await self.flow(1)

    async def is_of(self, versions: Versions, version: str) -> bool:
        """Whether a fresh session of a version gives the same answers, bit for bit."""
        fed = np.resize(self._x, (len(self.answers), self._x.shape[1]))
        return (await versions.answers(version, fed)).tobytes() == np.stack(self.answers).tobytes()

    async def _step(self) -> None:
        async with connect(self._address) as channel, RawStream(channel) as stream:
            handles = await stream.handles("lstm", self._session_id)
            while not self._is_leaving:
                k = len(self.answers)
                reply = await stream.step(handles, [k], self._x[None, None, k % len(self._x)])
                assert not reply.errors
                self.answers.append(reply.output()[0, 0])


def _named(version: str) -> ModelVersion:
    return ModelVersion(name="lstm", version=version)
