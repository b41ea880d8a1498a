"""`tidegate models` and `tidegate sessions` as processes, against a real server."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

from support.naive_models import repeating_package
from support.server import MODELS, ServerProcess
from support.waiting import eventually
from tidegate.client import AsyncClient, Client
from tidegate.model.package import read_package

PACKAGE = MODELS / "co2-weekly" / "1"


def tidegate(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tidegate.cli", *args], capture_output=True, text=True, check=False
    )


def test_models_are_listed(demo_server: ServerProcess) -> None:
    done = tidegate("models", "list", "--address", demo_server.address)

    heading, row = done.stdout.splitlines()
    assert heading.split() == ["MODEL", "VERSION", "STATE", "BATCH-EXACT", "DEVICE", "DESCRIPTION"]
    assert row.split()[:5] == ["co2-weekly", "1", "ready", "yes", "cpu"]
    assert row.endswith("quantiles of the next 26 weeks")


def test_a_model_is_shown(demo_server: ServerProcess) -> None:
    done = tidegate("models", "show", "co2-weekly", "--address", demo_server.address)

    told, _, figures = done.stdout.partition("\n\n")
    facts = dict(line.split("  ", 1) for line in told.splitlines())
    assert facts["model"].strip() == "co2-weekly/1"
    assert facts["input"].strip() == "x: float32 [1]; co2_ppm ppm"
    assert (
        facts["output"].strip()
        == "forecast: float32 [26, 3]; co2_ppm ppm; 1 to 26 steps ahead; quantiles 0.1, 0.5, 0.9"
    )
    kept = read_package(PACKAGE).manifest.provenance["metrics"]
    assert [line for line in figures.splitlines() if line.startswith("Figures on the ")] != []
    for part in kept.values():
        for measure in (part[name] for name in ("mae", "mse", "pinball", "interval_coverage", "windows")):
            for value in measure.values():
                texts = (f"{value:.3f}", f"{value:.3g}", f"{value:.1%}")
                assert any(f"| {text} |" in figures for text in texts), value


def test_a_package_is_shown_without_a_server(demo_server: ServerProcess) -> None:
    served = tidegate("models", "show", "co2-weekly", "--address", demo_server.address)
    places = [(f"{MODELS}/co2-weekly",), (f"{PACKAGE}",), (f"{MODELS}/co2-weekly", "--version", "1")]

    shown = [tidegate("models", "show", *place, "--address", "127.0.0.1:1") for place in places]

    assert [done.returncode for done in shown] == [0, 0, 0]
    assert len({done.stdout for done in shown}) == 1
    assert f"package         {PACKAGE}\n" in shown[0].stdout
    of_server_alone = ("state  ", "device ", "loaded at ")
    lines = [line for line in served.stdout.splitlines() if not line.startswith(of_server_alone)]
    assert lines == [line for line in shown[0].stdout.splitlines() if not line.startswith("package ")]


def test_a_folder_that_is_no_package_is_told_in_one_line(tmp_path: Path) -> None:
    done = tidegate("models", "show", str(tmp_path))
    other = tidegate("models", "show", f"{MODELS}/co2-weekly", "--version", "9")

    assert (done.returncode, other.returncode) == (1, 1)
    assert done.stderr == f"error: {tmp_path}: expected the folder of a package, with manifest.toml\n"
    assert other.stderr.endswith("expected the folder of a package of version 9, with manifest.toml\n")


def test_figures_that_somebody_else_wrote_are_shown_as_far_as_they_are_figures(tmp_path: Path) -> None:
    metrics = {
        "test": {
            "mse": {"1": 0.5, "7": "unknown"},
            "odd": {"1": 0.25},
            "from": 3,
            "targets": {"a": {"mse": {"1": 2.0}}, "b": {"mae": {"7": 3.0}, "unit": "m"}, "c": 4},
            "anomaly_above": {"0.99": 0.0625, "0.9": 0.125, "rest": 1, "1.2.3": 0},
        },
        "notes": "none",
    }
    package = repeating_package(tmp_path, ("a",), 1, provenance={"metrics": metrics})

    done = tidegate("models", "show", str(package))

    assert done.stderr == ""
    tables = done.stdout.partition("\n\n")[2]
    assert [line for line in tables.splitlines() if line.startswith("|") and "-:" not in line] == [
        "| steps ahead | MSE | odd |",
        "| 1 | 0.500 | 0.250 |",
        "| 7 | – | – |",
        "| target | steps ahead | MSE | MAE |",
        "| a | 1 | 2.000 | – |",
        "| b (m) | 7 | – | 3.000 |",
        "| above | found | if calibrated |",
        "| 0.9 | 12.5% | 10% |",
        "| 0.99 | 6.2% | 1% |",
    ]


def test_a_model_that_is_not_there_is_told_in_one_line(demo_server: ServerProcess) -> None:
    done = tidegate("models", "show", "nope", "--address", demo_server.address)

    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_sound_package_is_verified() -> None:
    done = tidegate("models", "verify", str(PACKAGE))

    assert done.returncode == 0
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == ["co2-weekly/1"] * 3
    assert "bit-identical" in done.stdout


def test_a_package_whose_bytes_changed_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "1"
    shutil.copytree(PACKAGE, copy)
    with (copy / "model.onnx").open("ab") as file:
        file.write(b"\0")

    done = tidegate("models", "verify", str(copy))

    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {copy}: sha256: expected ")


async def detached(session_id: str, address: str) -> None:
    """Return once the server has heard that the session's stream is gone."""
    async with AsyncClient(address) as client:

        async def is_detached() -> bool:
            return (await client.sessions.get(session_id)).condition == "detached"

        await eventually(is_detached)


def test_sessions_are_listed_shown_and_closed(small_server: ServerProcess) -> None:
    session_id, address = uuid4().hex, small_server.address
    with Client(address) as client, client.session("decay", session_id) as session:
        session.steps([[0, 0, 0, 0]] * 3)
    asyncio.run(detached(session_id, address))

    listed = tidegate("sessions", "list", "--model", "decay", "--address", address)
    shown = tidegate("sessions", "show", session_id, "--address", address)
    closed = tidegate("sessions", "close", session_id, "--address", address)
    gone = tidegate("sessions", "show", session_id, "--address", address)

    [row] = [line.split() for line in listed.stdout.splitlines() if line.startswith(session_id)]
    assert row[1:4] == ["decay/1", "detached", "3"]
    assert row[4] in ("0", "3")  # the store may have it by now
    assert "next step     3\n" in shown.stdout
    assert closed.stdout == f"{session_id}: ended after 3 steps\n"
    assert (gone.returncode, len(gone.stderr.splitlines())) == (1, 1)
