"""The Python examples of docs/clients.md print what the page says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.foreign import PYTHON
from support.pages import Example, examples
from support.server import ServerProcess

TIMEOUT_S = 60
EXAMPLES = examples("clients.md", "python")


@pytest.mark.parametrize("example", EXAMPLES, ids=["ours", "ours-asyncio", "triton", "triton-stream"])
def test_an_example_prints_what_the_page_says(demo_server: ServerProcess, example: Example) -> None:
    interpreter = PYTHON if "tritonclient" in example.code else sys.executable
    code = example.code.replace("127.0.0.1:8001", demo_server.address)

    done = subprocess.run(
        [interpreter, "-c", code], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )

    assert (done.stdout, done.stderr) == (example.output, "")
