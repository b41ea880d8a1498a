"""`tidegate stream` as a process, against a real server."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from support.server import MODELS, ServerProcess
from tidegate.client import Client

CO2 = MODELS / "co2-weekly" / "co2.csv"


def stream(
    server: ServerProcess | str, *args: str, stdin: str | None = None, model: str = "co2-weekly"
) -> subprocess.CompletedProcess[str]:
    address = server if isinstance(server, str) else server.address
    command = [sys.executable, "-m", "tidegate.cli", "stream", model, "--address", address, *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, input=stdin)


def table(text: str) -> list[list[str]]:
    return list(csv.reader(text.splitlines()))


def filled_series() -> tuple[list[str], np.ndarray]:
    """The demo series as the manifest's rule reads it: a missing week repeats the last."""
    weeks, values = [], []
    with CO2.open(newline="") as file:
        for row in csv.DictReader(file):
            weeks.append(row["week"])
            values.append(float(row["co2_ppm"]) if row["co2_ppm"] else values[-1])
    return weeks, np.array(values)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", ["1", "100"])
def test_the_demo_file_gets_the_answers_of_the_library(
    demo_server: ServerProcess, tmp_path: Path, chunk: str
) -> None:
    output = tmp_path / "out.csv"

    done = stream(demo_server, "--input", str(CO2), "--output", str(output), "--chunk", chunk)

    header, *rows = table(output.read_text())
    weeks, values = filled_series()
    with Client(demo_server.address) as client, client.session("co2-weekly") as session:
        expected = session.steps(values)
    assert (done.returncode, done.stdout) == (0, "")
    assert header[:3] == ["week", "forecast_h1_q0.1", "forecast_h1_q0.5"]
    assert len(header) == 1 + 26 * 3
    assert [row[0] for row in rows] == weeks
    written = np.array([row[1:] for row in rows], np.float32).reshape(-1, 26, 3)
    np.testing.assert_array_equal(written, expected)


def test_a_session_is_continued_by_the_next_file(demo_server: ServerProcess, tmp_path: Path) -> None:
    session_id = uuid4().hex
    args = ("--input", "-", "--output", "-", "--session", session_id)

    first = stream(demo_server, *args, stdin="week,co2_ppm\n2001-01-06,370\n2001-01-13,371\n")
    second = stream(demo_server, *args, stdin="week,co2_ppm\n2001-01-20,372\n")

    assert first.stderr == f"session {session_id} of co2-weekly/1 starts\n"
    assert second.stderr == f"session {session_id} of co2-weekly/1 continues at step 2\n"
    with Client(demo_server.address) as client, client.session("co2-weekly") as session:
        expected = session.steps([370, 371, 372])
    rows = table(first.stdout)[1:] + table(second.stdout)[1:]
    assert [row[0] for row in rows] == ["2001-01-06", "2001-01-13", "2001-01-20"]
    written = np.array([row[1:] for row in rows], np.float32).reshape(3, 26, 3)
    np.testing.assert_array_equal(written, expected)


def test_columns_may_stand_in_any_order_and_without_a_time(demo_server: ServerProcess) -> None:
    done = stream(demo_server, "--input", "-", "--output", "-", stdin="station,co2_ppm\nMLO,370\n")

    assert done.returncode == 0
    assert table(done.stdout)[0][0] == "forecast_h1_q0.1"
    assert len(table(done.stdout)) == 2


def test_a_missing_column_is_named_and_leaves_no_session(demo_server: ServerProcess, tmp_path: Path) -> None:
    file, session_id = tmp_path / "in.csv", uuid4().hex
    file.write_text("week,co2\n2001-01-06,370\n")
    output = tmp_path / "out.csv"

    done = stream(demo_server, "--input", str(file), "--output", str(output), "--session", session_id)

    assert done.returncode == 1
    assert done.stderr == f"error: {file}: column 'co2_ppm': no such column; got week, co2\n"
    assert not output.exists()
    with Client(demo_server.address) as client:
        assert session_id not in {s.session_id for s in client.sessions.list()}


BAD = "week,co2_ppm\n2001-01-06,370\n2001-01-13,inf\n2001-01-20,372\n2001-01-27,x\n"


@pytest.mark.parametrize("chunk", ["1", "3"])
def test_a_bad_row_stops_with_its_number_after_the_answers_before_it(
    demo_server: ServerProcess, tmp_path: Path, chunk: str
) -> None:
    output = tmp_path / "out.csv"

    done = stream(demo_server, "--input", "-", "--output", str(output), "--chunk", chunk, stdin=BAD)

    assert done.returncode == 1
    assert (
        done.stderr.splitlines()[-1] == "error: row 2: column 'co2_ppm': expected a finite number, got 'inf'"
    )
    assert [row[0] for row in table(output.read_text())] == ["week", "2001-01-06"]


@pytest.mark.parametrize("chunk", ["1", "3"])
def test_a_bad_row_is_skipped_where_that_is_asked_for(demo_server: ServerProcess, chunk: str) -> None:
    done = stream(
        demo_server,
        *("--input", "-", "--output", "-", "--chunk", chunk, "--on-bad-row", "skip"),
        stdin=BAD,
    )

    rows = table(done.stdout)[1:]
    assert done.returncode == 0
    assert done.stderr.splitlines()[1:] == [
        "skipped: row 2: column 'co2_ppm': expected a finite number, got 'inf'",
        "skipped: row 4: column 'co2_ppm': expected a number, got 'x'",
    ]
    assert [row[0] for row in rows] == ["2001-01-06", "2001-01-13", "2001-01-20", "2001-01-27"]
    assert [row[1] == "" for row in rows] == [False, True, False, True]


@pytest.mark.parametrize(("policy", "code"), [("stop", 1), ("skip", 0)])
def test_a_row_that_the_server_refuses_is_told_by_its_number(
    demo_server: ServerProcess, policy: str, code: int
) -> None:
    done = stream(
        demo_server,
        *("--input", "-", "--output", "-", "--chunk", "3", "--on-bad-row", policy),
        stdin="co2_ppm\n370\n1e39\n372\n",
    )

    assert done.returncode == code
    assert "row 2: " in done.stderr.splitlines()[-1]
    if policy == "skip":
        assert [row[0] == "" for row in table(done.stdout)[1:]] == [False, True, False]


def test_a_mode_that_does_not_fit_is_told(demo_server: ServerProcess) -> None:
    done = stream(
        demo_server,
        *("--input", "-", "--output", "-", "--session", uuid4().hex, "--mode", "resume"),
        stdin="co2_ppm\n370\n",
    )

    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_session_of_another_model_is_not_fed(small_server: ServerProcess) -> None:
    session_id = uuid4().hex
    with Client(small_server.address) as client, client.session("decay", session_id):
        pass

    done = stream(
        small_server,
        *("--input", "-", "--output", "-", "--session", session_id),
        stdin="x\n1\n",
        model="lstm",
    )

    assert done.stderr == f"error: session {session_id!r}: expected one of model lstm, got decay\n"


def test_a_file_that_is_not_there_is_told(demo_server: ServerProcess, tmp_path: Path) -> None:
    done = stream(demo_server, "--input", str(tmp_path / "no.csv"), "--output", "-")

    assert (done.returncode, done.stderr) == (1, f"error: {tmp_path / 'no.csv'}: No such file or directory\n")


def test_a_disk_that_is_full_is_told_in_one_line(demo_server: ServerProcess) -> None:
    refused = stream(demo_server, "--input", str(CO2), "--output", "/dev/full")

    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == "error: /dev/full: No space left on device"
    assert "Traceback" not in refused.stderr


def test_a_server_that_is_not_there_is_told() -> None:
    done = stream("127.0.0.1:1", "--input", "-", "--output", "-", stdin="co2_ppm\n370\n")

    assert done.returncode == 1
    assert done.stderr.startswith("error: 127.0.0.1:1: UNAVAILABLE: ")
    assert len(done.stderr.splitlines()) == 1


def test_the_input_is_not_written_over(demo_server: ServerProcess, tmp_path: Path) -> None:
    file, other = tmp_path / "in.csv", tmp_path / "link.csv"
    file.write_text("week,co2_ppm\n2001-01-06,370\n")
    other.symlink_to(file)

    by_name = stream(demo_server, "--input", str(file), "--output", str(other))
    command = [sys.executable, "-m", "tidegate.cli", "stream", "co2-weekly", "--input", "-"]
    with file.open() as pipe:
        by_pipe = subprocess.run(
            [*command, "--address", demo_server.address, "--output", str(file)],
            stdin=pipe,
            capture_output=True,
            text=True,
            check=False,
        )

    assert by_name.stderr == f"error: {other}: expected another file than the input, which it would replace\n"
    assert by_pipe.stderr == f"error: {file}: expected another file than the input, which it would replace\n"
    assert file.read_text() == "week,co2_ppm\n2001-01-06,370\n"


def test_a_time_column_that_is_not_there_is_told(demo_server: ServerProcess) -> None:
    done = stream(demo_server, "--input", "-", "--output", "-", stdin="Week,co2_ppm\n2001-01-06,370\n")

    assert done.returncode == 0
    assert done.stderr.splitlines()[1] == "no column 'week': every row is the next step, at whatever time"


@pytest.mark.parametrize(("locale", "encoding"), [("C", ""), ("C.UTF-8", "latin-1")])
def test_a_pipe_is_utf_8_whatever_the_locale(demo_server: ServerProcess, locale: str, encoding: str) -> None:
    command = [sys.executable, "-m", "tidegate.cli", "stream", "co2-weekly", "--input", "-", "--output", "-"]
    env = {**os.environ, "LC_ALL": locale, "PYTHONIOENCODING": encoding}

    good, bad = (
        subprocess.run(
            [*command, "--address", demo_server.address],
            input="week,co2_ppm,n\u00f6te\n\u00a02001-01-06,370,\u00e4\n".encode(codec),
            env=env,
            capture_output=True,
            check=False,
        )
        for codec in ("utf-8", "latin-1")
    )

    assert (good.returncode, good.stdout.decode().splitlines()[1][:12]) == (0, "\u00a02001-01-06,")
    assert (bad.returncode, len(bad.stderr.splitlines())) == (1, 1)
    assert bad.stderr.startswith(b"error: -: expected UTF-8 text: ")
