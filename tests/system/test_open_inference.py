"""The Open Inference door of a running server: found by tools, exact, and stopped without a loss."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from support.open_inference import Refused, infer, request
from support.open_inference_messages import infer_request, outputs_of
from support.raw_stream import connect
from support.server import ServerProcess
from tidegate.oip import open_inference_pb2 as pb
from tidegate.oip import open_inference_pb2_grpc
from tidegate.tensor import Array
from tidegate.v1 import model_pb2, model_pb2_grpc

SERVICE = "inference.GRPCInferenceService"


def series(rng: np.random.Generator, num_windows: int, num_steps: int) -> Array:
    return rng.normal(size=(num_windows, num_steps, 3)).astype(np.float32)


async def test_tools_find_the_service_and_that_it_is_serving(channel: aio.Channel) -> None:
    asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = reflection.ServerReflectionInfo(iter([asked]))
    answer = await call.read()
    health = health_pb2_grpc.HealthStub(channel)
    status = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))

    assert b"ModelStreamInfer" in answer.file_descriptor_response.file_descriptor_proto[0]
    assert status.status == health_pb2.HealthCheckResponse.SERVING


async def test_sequences_step_by_step_or_in_chunks_answer_as_windows_do_bit_by_bit(
    channel: aio.Channel, rng: np.random.Generator
) -> None:
    stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
    x = series(rng, 4, 12)
    windows = outputs_of(await stub.ModelInfer(infer_request("lstm", {"x": x})))["y"]

    async def sequence(number: int) -> bytes:
        answers, start = b"", 0
        while start < 12:
            end = start + int(rng.integers(1, 5))
            message = request(x[number, start:end], sequence=f"exact-{number}", start=start == 0)
            answer = await infer(channel, message)
            assert answer.first_step == start
            answers, start = answers + answer.y.tobytes(), end
        return answers

    answers = await asyncio.gather(*(sequence(number) for number in range(4)))

    assert answers == [windows[number].tobytes() for number in range(4)]


async def test_a_server_that_stops_ends_the_stream_and_keeps_its_sequences(
    small_models: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    x = series(rng, 1, 3)
    server = ServerProcess(small_models, tmp_path)
    async with connect(server.address) as channel:
        stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        expected = outputs_of(await stub.ModelInfer(infer_request("lstm", {"x": x})))["y"]
        call = stub.ModelStreamInfer()
        await call.write(request(x[0, :1], sequence=5, start=True))
        await call.write(request(x[0, 1:2], sequence=5))
        answers = [await call.read() for _ in range(2)]

        await asyncio.to_thread(server.stop)

        with pytest.raises(aio.AioRpcError) as caught:
            await call.read()

    with ServerProcess(small_models, tmp_path) as again:
        async with connect(again.address) as channel:
            last = await infer(channel, request(x[0, 2:], sequence=5, step=2))
            with pytest.raises(Refused, match="NOT_FOUND"):
                await infer(channel, request(x[0, 2:], sequence="5"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert not any(answer.error_message for answer in answers)
    assert last.y.tobytes() == expected[0, 2:].tobytes()


async def test_both_doors_keep_loading_from_clients_where_the_operator_says_so(
    small_models: Path, tmp_path: Path
) -> None:
    version = model_pb2.ModelVersion(name="lstm")
    with ServerProcess(small_models, tmp_path, "--model-control", "false") as server:
        async with connect(server.address) as channel:
            foreign = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
            native = model_pb2_grpc.ModelServiceStub(channel)
            calls = [
                foreign.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="lstm")),
                foreign.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="lstm")),
                native.LoadModel(model_pb2.LoadModelRequest(version=version)),
                native.UnloadModel(model_pb2.UnloadModelRequest(version=version)),
            ]
            codes = [await call.code() for call in calls]
            ready = await foreign.ModelReady(pb.ModelReadyRequest(name="lstm"))

    assert codes == [grpc.StatusCode.PERMISSION_DENIED] * 4
    assert ready.ready
