"""The public health client."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from scenario import main

WATCH_TIMEOUT_S = 30.0


def check(address: str, service: str) -> str:
    """What `Check` says: the name of a status, or of the code that it is refused with."""
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
        except grpc.RpcError as error:
            return str(error.code().name)
    return _name(answer)


def watch(address: str, service: str) -> Iterator[str]:
    """What `Watch` says, as it does."""
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        yield from map(_name, health_pb2_grpc.HealthStub(channel).Watch(request, timeout=WATCH_TIMEOUT_S))


def _name(answer: health_pb2.HealthCheckResponse) -> str:
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


if __name__ == "__main__":
    main(globals())
