"""`tidegate forecast` as a process, against a real server."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from support.forecast_models import feedback_package
from support.server import ServerProcess
from tidegate.client import Client

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("forecast")
    feedback_package(folder / "models")
    with ServerProcess(folder / "models", folder) as server:
        yield server


def forecast(server: ServerProcess, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tidegate.cli", "forecast", "--address", server.address, *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, input=stdin)


def fed_session(server: ServerProcess, model: str, values: object) -> str:
    session_id = uuid4().hex
    with Client(server.address) as client, client.session(model, session_id) as session:
        session.steps(values)
    return session_id


def test_the_demo_forecast_is_a_table_of_coming_weeks(demo_server: ServerProcess) -> None:
    session_id = fed_session(demo_server, "co2-weekly", [370, 371, 372])

    done = forecast(demo_server, session_id, "--steps", "3")

    heading, *rows = [line.split() for line in done.stdout.splitlines()]
    assert heading == ["STEP", "AHEAD", "forecast_q0.1", "forecast_q0.5", "forecast_q0.9"]
    assert [row[:2] for row in rows] == [["3", "1"], ["4", "2"], ["5", "3"]]
    assert all(float(low) < float(middle) < float(high) for *_, low, middle, high in rows)


def test_numbers_and_picture_go_to_files(demo_server: ServerProcess, tmp_path: Path) -> None:
    session_id = fed_session(demo_server, "co2-weekly", [370, 371, 372])
    numbers, picture = tmp_path / "f.csv", tmp_path / "f.png"

    done = forecast(
        demo_server, session_id, "--steps", "26", "--output", str(numbers), "--plot", str(picture)
    )

    with Client(demo_server.address) as client:
        made = client.sessions.forecast(session_id, 26)
    header, *rows = csv.reader(numbers.read_text().splitlines())
    assert (done.returncode, done.stdout) == (0, "")
    assert header == ["step", "ahead", "forecast_q0.1", "forecast_q0.5", "forecast_q0.9"]
    np.testing.assert_array_equal(np.array([row[2:] for row in rows], np.float32), made.outputs["forecast"])
    assert picture.read_bytes().startswith(PNG)


def test_what_is_known_ahead_comes_from_a_file(server: ServerProcess) -> None:
    session_id = fed_session(server, "feedback", np.ones((4, 2), np.float32))

    done = forecast(
        server, session_id, "--steps", "3", "--future", "-", stdin="season,value\n0.5,\n0.25,2\n0,\n"
    )

    heading, *rows = [line.split() for line in done.stdout.splitlines()]
    assert heading == ["STEP", "AHEAD", "x_value", "x_season", "y_q0.1", "y_q0.5", "y_q0.9"]
    assert [float(row[3]) for row in rows] == [0.5, 0.25, 0]
    assert float(rows[1][2]) == 2
    assert rows[2][2] == rows[1][5]


@pytest.mark.parametrize(
    ("stdin", "problem"),
    [
        ("time\n1\n", "-: expected one of the columns value, season, got time"),
        ("season\nx\n", "row 1: column 'season': expected a number, got 'x'"),
        ("season\n1\n", "future_inputs: expected also 'x' feature 'season' [3]"),
    ],
)
def test_a_file_that_will_not_do_is_told_in_one_line(server: ServerProcess, stdin: str, problem: str) -> None:
    session_id = fed_session(server, "feedback", np.ones((4, 2), np.float32))

    done = forecast(server, session_id, "--steps", "3", "--future", "-", stdin=stdin)

    assert (done.returncode, done.stderr) == (1, f"error: {problem}\n")
