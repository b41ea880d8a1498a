"""The public reflection client against the running server."""

from __future__ import annotations

from support.foreign import call
from support.server import ServerProcess

SESSIONS = "tidegate.v1.SessionService"
MODELS = "tidegate.v1.ModelService"
OIP = "inference.GRPCInferenceService"


def test_reflection_lists_every_service(server: ServerProcess) -> None:
    listed = call("reflection", "services", server.address)

    assert listed == sorted(
        [SESSIONS, MODELS, OIP, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"]
    )


def test_reflection_describes_a_service_that_the_client_has_never_seen(server: ServerProcess) -> None:
    described = call("reflection", "methods", server.address, service=SESSIONS)

    assert described["Stream"] == ["tidegate.v1.StreamRequest", "tidegate.v1.StreamResponse"]
    assert described["StepSession"] == ["tidegate.v1.StepSessionRequest", "tidegate.v1.StepSessionResponse"]


def test_a_session_is_stepped_with_what_reflection_says_alone(server: ServerProcess) -> None:
    request = {
        "sessionId": "by-reflection",
        "model": {"name": "decay"},
        "mode": "OPEN_MODE_CREATE",
        "firstStep": 0,
        "inputs": [{"values": [1, 2, 3, 4, 1, 2, 3, 4], "shape": [2, 4]}],
    }

    answer = call(
        "reflection", "invoke", server.address, service=SESSIONS, method="StepSession", request=request
    )

    assert answer["nextStep"] == "2"
    assert answer["outputs"][0]["values"] == [1, 2, 3, 4, 1.5, 3, 4.5, 6]


def test_the_open_inference_door_is_found_by_reflection(server: ServerProcess) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32Contents": [1, 2, 3, 4]}}
    request = {"modelName": "decay", "inputs": [tensor]}

    answer = call("reflection", "invoke", server.address, service=OIP, method="ModelInfer", request=request)

    assert answer["outputs"] == [{"name": "y", "datatype": "FP32", "shape": ["1", "4"]}]
