"""The base install is enough for the client and the command line."""

import subprocess
import sys

import pytest

EXTRAS = {
    "onnxruntime",
    "torch",
    "onnx",
    "aiohttp",
    "prometheus_client",
    "structlog",
    "grpc_health",
    "grpc_reflection",
    "matplotlib",
    "plotext",
}
"""Modules that come with an extra."""


def imported_by(module: str) -> set[str]:
    """Top-level modules that a fresh process has after importing one."""
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["tidegate.client", "tidegate.cli", "tidegate.cli.serve"])
def test_importing_it_imports_nothing_of_an_extra(module: str) -> None:
    # grpc imports its companions by itself, where they are installed.
    assert (imported_by(module) - imported_by("grpc")) & EXTRAS == set()


def test_the_command_line_waits_for_no_library_at_all() -> None:
    assert imported_by("tidegate.cli") & {"numpy", "grpc", "google", "pydantic"} == set()


def test_the_client_leaves_the_open_inference_messages_to_other_clients() -> None:
    # Theirs have the same names, and one process takes them once.
    program = "import sys, tidegate.client; print('tidegate.oip' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
