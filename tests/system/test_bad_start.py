"""A server that cannot start says why in one line and exits with a code that scripts can test."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnxruntime
import pytest

EXIT_TIMEOUT_S = 60.0

BAD_SETTING, BAD_USAGE = 1, 2


@dataclass(frozen=True)
class Case:
    """`{port}` in a flag is a port in use, `{folder}` an empty folder of the test's own."""

    flags: tuple[str, ...]
    exit_code: int
    texts: tuple[str, ...]
    settings_file: str = ""
    environment: dict[str, str] = field(default_factory=dict)


CASES = {
    "the gRPC port in use": Case(
        ("--grpc-port={port}",), BAD_SETTING, ("--grpc-port", "127.0.0.1:{port}", "in use")
    ),
    "the HTTP port in use": Case(
        ("--grpc-port=0", "--http-port={port}"),
        BAD_SETTING,
        ("--http-port", "127.0.0.1:{port}", "is in use"),
    ),
    "an address of another machine": Case(
        ("--grpc-port=0", "--http-port=0", "--http-host=192.0.2.1"),
        BAD_SETTING,
        ("--http-host", "192.0.2.1"),
    ),
    "an unknown flag": Case(("--grpc-prt=1",), BAD_USAGE, ("--grpc-prt", "--grpc-port")),
    "a flag out of range": Case(
        ("--grpc-port=70000",), BAD_SETTING, ("--grpc-port", "less than or equal to 65535", "got '70000'")
    ),
    "a flag that is no number": Case(
        ("--max-sessions=many",), BAD_SETTING, ("--max-sessions", "valid integer", "got 'many'")
    ),
    "a choice that is none": Case(("--device=tpu",), BAD_USAGE, ("--device", "'tpu'", "auto", "cpu", "cuda")),
    "a store that is not offered": Case(("--store=redis://x",), BAD_SETTING, ("--store", "got 'redis://x'")),
    "a variable out of range": Case(
        (), BAD_SETTING, ("TIDEGATE_MAX_SESSIONS", "got '0'"), environment={"TIDEGATE_MAX_SESSIONS": "0"}
    ),
    "an unknown setting in the file": Case(
        ("--config={folder}/settings.toml",),
        BAD_SETTING,
        ("settings.toml: max_session: ", "there is no such key", "got 8"),
        settings_file="max_session = 8\n",
    ),
    "a setting of another type in the file": Case(
        ("--config={folder}/settings.toml",),
        BAD_SETTING,
        ("settings.toml: max_sessions: ", "got 'x'"),
        settings_file="max_sessions = 'x'\n",
    ),
    "a file that is not TOML": Case(
        ("--config={folder}/settings.toml",), BAD_SETTING, ("settings.toml: not TOML",), settings_file="a b\n"
    ),
    "no settings file": Case(
        ("--config={folder}/none.toml",), BAD_SETTING, ("none.toml: no such settings file",)
    ),
    "no model repository": Case(("--models={folder}/none",), BAD_SETTING, ("--models", "No such file")),
    "a file for a model repository": Case(
        ("--models={folder}/settings.toml",), BAD_SETTING, ("--models", "Not a directory"), settings_file=" "
    ),
    "CUDA without its provider": Case(
        ("--device=cuda",), BAD_SETTING, ("--device cuda", "no CUDA provider", "tidegate[gpu]")
    ),
}


@pytest.fixture
def port_in_use() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("name", CASES)
def test_a_bad_start_says_why_in_one_line(name: str, tmp_path: Path, port_in_use: int) -> None:
    case = CASES[name]
    if (
        name == "CUDA without its provider"
        and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    ):
        pytest.skip("this machine has the CUDA provider")
    (tmp_path / "models").mkdir()
    if case.settings_file:
        (tmp_path / "settings.toml").write_text(case.settings_file)
    flags = [f.format(port=port_in_use, folder=tmp_path) for f in case.flags]

    ended = serve(tmp_path, flags, case.environment)

    assert ended.returncode == case.exit_code, ended.stderr
    told = ended.stderr.splitlines()[-1]
    assert told.lower().startswith("error: ")
    texts = [t.format(port=port_in_use, folder=tmp_path) for t in case.texts]
    assert [t for t in texts if t not in told] == [], told
    assert "Traceback" not in ended.stderr
    if case.exit_code == BAD_SETTING:
        assert len(ended.stderr.splitlines()) == 1, ended.stderr


def test_an_error_in_a_running_start_leaves_no_ready_file(tmp_path: Path, port_in_use: int) -> None:
    (tmp_path / "models").mkdir()
    ready_file = tmp_path / "ready.json"

    ended = serve(tmp_path, [f"--grpc-port={port_in_use}", f"--ready-file={ready_file}"], {})

    assert ended.returncode == BAD_SETTING
    assert not ready_file.exists()


def serve(folder: Path, flags: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`tidegate serve` until it ends by itself, in a folder with an empty repository."""
    return subprocess.run(
        [sys.executable, "-m", "tidegate.cli", "serve", "--http-port=0", *flags],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=EXIT_TIMEOUT_S,
        check=False,
    )
