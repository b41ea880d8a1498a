"""Clients that nobody here wrote: scripts of `tests/interop/clients`, run by an interpreter of their own.

Their environment has no tidegate in it, and their process is not the test's: ours and theirs register messages
of the same names.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-interop/bin/python"
CLIENTS = ROOT / "tests/interop/clients"
TIMEOUT_S = 60.0


def call(script: str, scenario: str, address: str, **arguments: object) -> Any:
    """Let a client do something.

    Args:
        script: A module of `tests/interop/clients`.
        scenario: A function of it.
        address: Where the server listens, as `HOST:PORT`.
        arguments: What the function takes beside the address.

    Returns:
        What it returned, as JSON carries it: floats come as they were, bit for bit.

    Raises:
        AssertionError: It failed; holds what it said.
    """
    command = _command(script, scenario, address)
    asked = json.dumps(arguments)
    done = subprocess.run(
        command, input=asked, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, f"{script}.{scenario} failed:\n{done.stdout}{done.stderr}"
    return json.loads(done.stdout)


@contextmanager
def conversation(script: str, scenario: str, address: str, **arguments: object) -> Iterator[Iterator[Any]]:
    """Let a client do something and listen meanwhile; ends it where the `with` ends.

    Args:
        script: As for `call`.
        scenario: A generator function.
        address: As for `call`.
        arguments: As for `call`.

    Yields:
        What the client yields, as it does.
    """
    command = _command(script, scenario, address)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(arguments))
        process.stdin.close()
        try:
            yield (json.loads(line) for line in process.stdout)
        finally:
            process.kill()


def _command(script: str, scenario: str, address: str) -> list[str]:
    assert PYTHON.exists(), "run `make .venv-interop/.stamp` first: it installs the foreign clients"
    return [str(PYTHON), str(CLIENTS / f"{script}.py"), scenario, address]
