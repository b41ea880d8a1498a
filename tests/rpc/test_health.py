"""Health and reflection, asked by real clients."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tidegate.rpc.health import SERVICES, Health, enable_reflection
from tidegate.rpc.interceptors import ServerInterceptor
from tidegate.telemetry.metrics import Metrics

Status = health_pb2.HealthCheckResponse


@asynccontextmanager
async def serving(health: Health) -> AsyncIterator[aio.Channel]:
    server = aio.server(interceptors=[ServerInterceptor(Metrics())])
    await health.add_to(server)
    enable_reflection(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(grace=None)


async def check(channel: aio.Channel, service: str = "") -> int:
    answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    return answer.status


@pytest.mark.parametrize("service", ["", *SERVICES])
async def test_a_service_is_serving_from_ready_to_stopping(service: str) -> None:
    health = Health()
    async with serving(health) as channel:
        seen = [await check(channel, service)]
        await health.set_ready(store_works=True)
        seen.append(await check(channel, service))
        await health.set_stopping()
        seen.append(await check(channel, service))

        assert seen == [Status.NOT_SERVING, Status.SERVING, Status.NOT_SERVING]


async def test_nothing_is_serving_again_after_stopping() -> None:
    health = Health()
    async with serving(health) as channel:
        await health.set_stopping()
        await health.set_ready(store_works=True)
        await health.set_model("co2", ok=True)

        assert await check(channel) == Status.NOT_SERVING


async def test_a_model_has_an_entry_of_its_own() -> None:
    health = Health()
    async with serving(health) as channel:
        await health.set_ready(store_works=True)
        await health.set_model("co2", ok=True)
        await health.set_model("tide", ok=False)

        assert await check(channel, "tidegate.model/co2") == Status.SERVING
        assert await check(channel, "tidegate.model/tide") == Status.NOT_SERVING


async def test_an_unknown_service_is_not_found() -> None:
    async with serving(Health()) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await check(channel, "made.up")

        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_store_that_fails_is_told_beside_a_server_that_serves() -> None:
    health = Health()
    async with serving(health) as channel:
        await health.set_ready(store_works=True)
        before = await check(channel, "tidegate.store")
        await health.set_store(works=False)

        assert before == Status.SERVING
        assert await check(channel, "tidegate.store") == Status.NOT_SERVING
        assert await check(channel) == Status.SERVING


async def test_a_watcher_is_told_of_each_change() -> None:
    health = Health()
    async with serving(health) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        seen = [(await watch.read()).status]
        await health.set_ready(store_works=True)
        seen.append((await watch.read()).status)
        await health.set_stopping()
        seen.append((await watch.read()).status)

        assert seen == [Status.NOT_SERVING, Status.SERVING, Status.NOT_SERVING]


async def test_a_watch_ends_with_the_server_instead_of_holding_it_up() -> None:
    health = Health()
    async with serving(health) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        await health.set_stopping()

        assert await watch.read() is aio.EOF
        assert await watch.code() is grpc.StatusCode.OK


async def test_reflection_lists_every_service() -> None:
    async with serving(Health()) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        answer = await call.read()

        names = {service.name for service in answer.list_services_response.service}
        assert names >= {
            "tidegate.v1.SessionService",
            "tidegate.v1.ModelService",
            "grpc.health.v1.Health",
        }
