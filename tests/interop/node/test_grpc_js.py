"""Node's own gRPC client, `@grpc/grpc-js`, with stubs that it makes from the public proto files."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.pages import DOCS, examples
from support.server import ServerProcess

pytestmark = pytest.mark.node

TIMEOUT_S = 30


def run(script: str, server: ServerProcess, node_modules: Path) -> Any:
    command = ["node", str(Path(__file__).with_name(script)), server.address]
    environment = {**os.environ, "NODE_PATH": str(node_modules)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_stream_opens_steps_refuses_and_resumes(server: ServerProcess, node_modules: Path) -> None:
    told = run("native.js", server, node_modules)

    assert told == {
        "model": "decay",
        "opened": [0, 0],
        # Session b's third answer was in the frame whose other row was refused.
        "outputs": [[1] * 8, [1.5] * 8, [1.75] * 4 + [1.875] * 4],
        "refused": [[0, "WRONG_STEP", 2]],
        "resumed": [2, 3],
        "closed": [3, 4],
    }


def test_a_sequence_lives_on_a_stream_that_survives_a_refusal(
    server: ServerProcess, node_modules: Path
) -> None:
    told = run("open_inference.js", server, node_modules)

    assert {"sequence", "sequence(string_id)"} <= set(told["extensions"])
    assert told["stateless"] == {"id": "alone", "y": [1] * 4}
    assert told["answers"] == [
        {"id": "a", "y": [1] * 4, "step": 0},
        {"id": "b", "y": [1.5] * 4, "step": 1},
        {"id": "c", "y": [1.75] * 4, "step": 2},
    ]
    message, request_id = told["refused"]
    assert message.startswith("NOT_FOUND: ")
    assert request_id == "lost"


def test_the_example_of_the_page_prints_what_the_page_says(
    demo_server: ServerProcess, node_modules: Path
) -> None:
    (example,) = examples("clients.md", "javascript")
    code = example.code.replace("127.0.0.1:8001", demo_server.address)

    done = subprocess.run(
        ["node", "-e", code],
        cwd=DOCS.parent,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, "NODE_PATH": str(node_modules)},
    )

    assert (done.stdout, done.stderr) == (example.output, "")
