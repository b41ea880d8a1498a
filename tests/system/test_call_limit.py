"""Calls at work have a limit, those included that a client can open and forget."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from support.raw_stream import connect
from support.server import ServerProcess

LIMIT = 4


async def test_a_call_past_the_limit_is_refused_and_those_before_it_go_on(
    small_models: Path, tmp_path: Path
) -> None:
    request = health_pb2.HealthCheckRequest()
    with ServerProcess(small_models, tmp_path, f"--max-concurrent-calls={LIMIT}") as server:
        async with connect(server.address) as channel:
            stub = HealthStub(channel)
            watches = [stub.Watch(request) for _ in range(LIMIT)]
            first = [await watch.read() for watch in watches]

            with pytest.raises(aio.AioRpcError) as refused:
                await stub.Check(request)
            for watch in watches:
                watch.cancel()
                assert await watch.code() is grpc.StatusCode.CANCELLED

    assert {answer.status for answer in first} == {health_pb2.HealthCheckResponse.SERVING}
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
