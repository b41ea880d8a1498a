"""The Open Inference door on a session bench, behind a real port of this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grpc import aio

from support.session_bench import SessionBench
from tidegate.config import ServerSettings
from tidegate.oip import open_inference_pb2_grpc
from tidegate.rpc.interceptors import ServerInterceptor
from tidegate.rpc.open_inference.inference import Inference
from tidegate.rpc.open_inference.servicer import OpenInferenceServicer


@asynccontextmanager
async def serving(
    bench: SessionBench, *, is_ready: bool = True, **settings: object
) -> AsyncIterator[open_inference_pb2_grpc.GRPCInferenceServiceAsyncStub]:
    """Serve the door while the block lasts; what it yields calls it."""
    manager = bench.manager
    servicer = OpenInferenceServicer(
        manager,
        Inference(manager),
        ServerSettings(**settings),  # type: ignore[arg-type]
        bench.metrics,
        lambda: is_ready,
    )
    server = aio.server(interceptors=[ServerInterceptor(bench.metrics)])
    open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
    finally:
        servicer.drain()
        await server.stop(grace=None)
