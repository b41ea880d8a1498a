"""`tidegate sessions export`, `import` and `fork` as processes, against real servers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from support.server import ServerProcess
from tidegate.client import Client

X = np.random.default_rng(2).normal(0, 1, (9, 3)).astype(np.float32)


@pytest.fixture
def session_id(small_server: ServerProcess) -> str:
    """A session that has had 6 steps."""
    session_id = uuid4().hex
    with Client(small_server.address) as client, client.session("lstm", session_id) as session:
        session.steps(X[:6])
    return session_id


def tidegate(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tidegate.cli", "sessions", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rest(address: str, session_id: str) -> bytes:
    """The answers to what comes after the sixth step."""
    with Client(address) as client, client.session("lstm", session_id, mode="resume") as session:
        return session.steps(X[6:]).tobytes()


def test_a_session_goes_on_on_another_server(
    small_server: ServerProcess, small_models: Path, session_id: str, tmp_path: Path
) -> None:
    file = tmp_path / "mlo.session"
    with ServerProcess(small_models, tmp_path / "other") as other:
        exported = tidegate("export", session_id, file, "--address", small_server.address)
        imported = tidegate("import", file, "--address", other.address)
        renamed = tidegate("import", file, "--session", "another", "--address", other.address)
        answers = [rest(other.address, name) for name in (session_id, "another")]

    assert exported.stdout == f"{session_id}: {file.stat().st_size} bytes in {file}\n"
    assert imported.stdout == f"{session_id}: begins at step 6\n"
    assert renamed.stdout == "another: begins at step 6\n"
    assert answers == [rest(small_server.address, session_id)] * 2


def test_a_fork_goes_on_beside_the_original(small_server: ServerProcess, session_id: str) -> None:
    new_id = uuid4().hex

    forked = tidegate("fork", session_id, new_id, "--address", small_server.address)
    shown = tidegate("show", new_id, "--address", small_server.address)

    assert forked.stdout == f"{new_id}: begins at step 6\n"
    facts = dict(line.split("  ", 1) for line in shown.stdout.splitlines())
    assert [facts[name].strip() for name in ("condition", "next step", "durable step")] == [
        "detached",
        "6",
        "6",
    ]
    assert rest(small_server.address, new_id) == rest(small_server.address, session_id)


def test_what_cannot_be_done_is_told_in_one_line(
    small_server: ServerProcess, session_id: str, tmp_path: Path
) -> None:
    address, file = ("--address", small_server.address), tmp_path / "state"
    tidegate("export", session_id, file, *address)
    (tmp_path / "cut").write_bytes(file.read_bytes()[:-1])

    outcomes = [
        tidegate("export", "nobody", tmp_path / "none", *address),
        tidegate("export", session_id, tmp_path / "no" / "folder", *address),
        tidegate("import", tmp_path / "none", *address),
        tidegate("import", tmp_path / "cut", *address),
        tidegate("import", file, *address),
        tidegate("fork", session_id, session_id, *address),
    ]

    assert [done.returncode for done in outcomes] == [1] * 6
    said = [done.stderr.removesuffix("\n") for done in outcomes]
    assert said == [
        "error: no session 'nobody'",
        f"error: {tmp_path}/no/folder: No such file or directory",
        f"error: {tmp_path}/none: No such file or directory",
        f"error: snapshot: cut short: expected {file.stat().st_size} bytes, got {file.stat().st_size - 1}",
        *[f"error: session {session_id!r} exists, at step 6"] * 2,
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut", "state"]
