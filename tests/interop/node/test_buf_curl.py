"""`buf curl`: JSON in, JSON out, with messages that it learns from reflection or from the proto files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.server import ServerProcess

pytestmark = pytest.mark.node

PROTO = Path(__file__).resolve().parents[3] / "proto"
TIMEOUT_S = 30
OIP = "inference.GRPCInferenceService"
SCHEMAS = pytest.mark.parametrize(
    "schema", [[], ["--schema", str(PROTO)]], ids=["by reflection", "from the proto files"]
)


@pytest.fixture
def buf(node_modules: Path) -> Path:
    """The program."""
    return node_modules / ".bin/buf"


def curl(buf: Path, server: ServerProcess, schema: list[str], method: str, request: object) -> Any:
    command = [str(buf), "curl", *schema, "--protocol", "grpc", "--http2-prior-knowledge"]
    command += ["--data", json.dumps(request), f"http://{server.address}/{method}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return json.loads(done.stdout or done.stderr)


@SCHEMAS
def test_a_session_is_stepped_by_its_id(buf: Path, server: ServerProcess, schema: list[str]) -> None:
    request = {
        "sessionId": f"buf-{len(schema)}",
        "model": {"name": "decay"},
        "mode": "OPEN_MODE_CREATE",
        "firstStep": 0,
        "inputs": [{"shape": [2, 4], "values": [1, 2, 3, 4, 1, 2, 3, 4]}],
    }

    answer = curl(buf, server, schema, "tidegate.v1.SessionService/StepSession", request)

    assert answer["nextStep"] == "2"
    assert answer["outputs"][0]["values"] == [1, 2, 3, 4, 1.5, 3, 4.5, 6]


def test_a_refusal_comes_with_its_code_and_its_details(buf: Path, server: ServerProcess) -> None:
    request = {"sessionId": "buf-unknown", "firstStep": 0, "inputs": [{"values": [1, 2, 3, 4]}]}

    answer = curl(buf, server, [], "tidegate.v1.SessionService/StepSession", request)

    assert answer["code"] == "not_found"
    assert [d["type"] for d in answer["details"]] == ["google.rpc.ErrorInfo"]


@SCHEMAS
def test_typed_numbers_are_inferred(buf: Path, server: ServerProcess, schema: list[str]) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2, 4], "contents": {"fp32Contents": [1] * 8}}
    request = {"modelName": "decay", "id": "typed", "inputs": [tensor]}

    answer = curl(buf, server, schema, f"{OIP}/ModelInfer", request)

    assert answer["id"] == "typed"
    assert answer["outputs"] == [{"name": "y", "datatype": "FP32", "shape": ["1", "2", "4"]}]


@SCHEMAS
def test_the_server_says_what_it_is(buf: Path, server: ServerProcess, schema: list[str]) -> None:
    answer = curl(buf, server, schema, f"{OIP}/ServerMetadata", {})

    assert answer["name"] == "tidegate"
    assert "sequence" in answer["extensions"]
