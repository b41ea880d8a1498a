"""The public health client against the running server."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.foreign import call, conversation
from support.server import ServerProcess

OIP = "inference.GRPCInferenceService"


@pytest.mark.parametrize(
    "service",
    [
        "",
        OIP,
        "tidegate.v1.SessionService",
        "tidegate.v1.ModelService",
        "tidegate.model/decay",
        "tidegate.store",
    ],
)
def test_check_knows_the_server_its_services_its_models_and_its_store(
    server: ServerProcess, service: str
) -> None:
    assert call("health", "check", server.address, service=service) == "SERVING"


def test_check_refuses_a_service_that_does_not_exist(server: ServerProcess) -> None:
    assert call("health", "check", server.address, service="no.such.Service") == "NOT_FOUND"


def test_watch_tells_when_the_server_stops(interop_models: Path, tmp_path: Path) -> None:
    with (
        ServerProcess(interop_models, tmp_path) as server,
        conversation("health", "watch", server.address, service="") as told,
    ):
        before = next(told)

        server.stop()

        assert (before, next(told)) == ("SERVING", "NOT_SERVING")
