"""`tidegate stream` on files whose rows are several steps, one or none."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from support.ids import new_id
from support.server import ServerProcess
from support.timed_models import MODEL, broken_series, timed_package
from tidegate.cli.rows import joined_steps, row_reader
from tidegate.cli.stream import stream
from tidegate.client import Client
from tidegate.errors import InvalidRequest
from tidegate.model.steps import Steps

NUM_ROWS = 150
NUM_CUTS = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("timed")
    timed_package(folder / "models")
    with ServerProcess(folder / "models", folder, "--checkpoint-age-s", "0.05") as server:
        yield server


def feed(server: ServerProcess, source: Path, output: Path, session_id: str, *flags: str) -> str:
    """Run the command to its end; what it says on stderr."""
    args = [MODEL, "--address", server.address, "--input", str(source), "--output", str(output)]
    done = CliRunner().invoke(stream, [*args, "--session", session_id, "--on-bad-row", "skip", *flags])
    assert done.exit_code == 0, done.exception
    return done.stderr


def read_steps(client: Client, lines: list[str]) -> list[Steps]:
    """What each row is by the model's rules; a refused one nothing."""
    reader = row_reader(client.models.get(MODEL), io.StringIO("".join(lines)), source="series")
    found = []
    while reader.num_rows < len(lines) - 1:
        try:
            found.append(next(reader).steps)
        except InvalidRequest:
            found.append(Steps((), (np.empty((0, 3), np.float32),), frozenset()))
    return found


@pytest.mark.parametrize("chunk", ["1", "40"])
def test_each_row_has_the_answer_of_its_own_step(
    server: ServerProcess, tmp_path: Path, rng: np.random.Generator, chunk: str
) -> None:
    source, output = tmp_path / "series.csv", tmp_path / "answers.csv"
    lines = broken_series(NUM_ROWS, rng)
    source.write_text("".join(lines))

    said = feed(server, source, output, new_id(), "--chunk", chunk)

    with Client(server.address) as client:
        rows = read_steps(client, lines)
        inputs = joined_steps(client.models.get(MODEL), rows)
        with client.session(MODEL) as session:
            answers = session.run(inputs)["y"][:, 0]
    ends = np.cumsum([steps.num_steps for steps in rows]) - 1
    expected = [str(answers[end]) if steps.num_steps else "" for end, steps in zip(ends, rows, strict=True)]
    header, *written = output.read_text().splitlines()
    assert header == "time,y"
    assert written == [f"{row.split(',')[0]},{y}" for row, y in zip(lines[1:], expected, strict=True)]
    assert np.isnan(inputs["x"][:, 0]).sum() > NUM_ROWS / 4
    num_dropped = NUM_ROWS - said.count("skipped: ") - sum(steps.num_steps > 0 for steps in rows)
    num_filled = sum(max(steps.num_steps - 1, 0) for steps in rows)
    assert said.splitlines()[-2:] == [
        f"dropped: {num_dropped} rows, whose times repeat, go back or come too early",
        f"filled: {num_filled} steps in gaps between rows",
    ]


def test_a_run_goes_on_wherever_the_one_before_was_killed(
    server: ServerProcess, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Killed: lines are written that nothing acknowledges, the server has steps of rows without a line."""
    lines = broken_series(NUM_ROWS, rng)
    source, calm = tmp_path / "series.csv", tmp_path / "calm.csv"
    source.write_text("".join(lines))
    feed(server, source, calm, new_id(), "--chunk", "1000")
    whole = calm.read_text().splitlines(keepends=True)

    for _ in range(NUM_CUTS):
        stored, written = sorted(rng.integers(0, NUM_ROWS, 2).tolist())
        part, output, session_id = tmp_path / "part.csv", tmp_path / "answers.csv", new_id()
        output.unlink(missing_ok=True)
        part.write_text("".join(lines[: stored + 1]))
        feed(server, part, output, session_id, "--chunk", "7")
        with output.open("a") as file:
            file.write("".join(whole[stored + 1 : written + 1]) + whole[written + 1][:-1])
        with Client(server.address) as client:
            rows = read_steps(client, lines)
            step = sum(steps.num_steps for steps in rows[:stored])
            ahead = joined_steps(client.models.get(MODEL), rows)["x"][step:]
            with client.session(MODEL, session_id, next_step=step, ack="explicit") as session:
                num_ahead = int(rng.integers(0, len(ahead) + 1))
                if num_ahead:
                    session.run(ahead[:num_ahead], outputs="none")

            feed(server, source, output, session_id, "--chunk", "5")

            assert output.read_text() == "".join(whole), (stored, written, num_ahead)
            assert client.sessions.get(session_id).next_step == sum(steps.num_steps for steps in rows)


def test_an_output_of_another_input_is_not_gone_on_with(server: ServerProcess, tmp_path: Path) -> None:
    source, output, session_id = tmp_path / "series.csv", tmp_path / "answers.csv", new_id()
    rows = ["time,load\n", "2024-01-01 00:00,1\n", "2024-01-01 01:00,2\n"]
    source.write_text("".join(rows))
    feed(server, source, output, session_id)
    args = [MODEL, "--address", server.address, "--input", str(source), "--output", str(output)]

    for others, problem in [
        (rows[:2], "expected one row per row of the input, got 2 for 1"),
        (
            [*rows[:2], "2024-01-01 02:00,2\n"],
            "expected the time '2024-01-01 02:00' in row 2, got another one",
        ),
        ([*rows[:2], "2024-01-01 02:00,hot\n"], "expected the time '2024-01-01 02:00' in row 2"),
        (["load,time\n", *("3," + row.split(",")[0] + "\n" for row in rows[2:0:-1])], "expected the time"),
    ]:
        source.write_text("".join(others))
        done = CliRunner().invoke(stream, [*args, "--session", session_id])
        assert problem in str(done.exception)

    with Client(server.address) as client:
        assert client.sessions.get(session_id).next_step == 2


def test_an_answer_to_a_row_that_is_dropped_is_of_another_input(
    server: ServerProcess, tmp_path: Path
) -> None:
    source, output, session_id = tmp_path / "series.csv", tmp_path / "answers.csv", new_id()
    source.write_text("time,load\n2024-01-01 00:00,1\n2024-01-01 00:00,2\n")
    feed(server, source, output, session_id)
    output.write_text("time,y\n2024-01-01 00:00,0.5\n2024-01-01 00:00,0.5\n")
    args = [MODEL, "--address", server.address, "--input", str(source), "--output", str(output)]

    done = CliRunner().invoke(stream, [*args, "--session", session_id])

    assert "expected no answer to row 2, which is dropped, got one" in str(done.exception)


def test_the_output_of_one_day_is_not_taken_for_that_of_the_next(
    server: ServerProcess, tmp_path: Path
) -> None:
    """As many rows of another file would have been nothing to do, without a word."""
    days, output, session_id = [tmp_path / "1.csv", tmp_path / "2.csv"], tmp_path / "answers.csv", new_id()
    for day, path in enumerate(days, 1):
        path.write_text(f"time,load\n2024-01-0{day} 00:00,1\n2024-01-0{day} 01:00,2\n")
    feed(server, days[0], output, session_id)
    args = [MODEL, "--address", server.address, "--input", str(days[1]), "--session", session_id]

    done = CliRunner().invoke(stream, [*args, "--output", str(output)])

    assert "belongs to another input; choose another output" in str(done.exception)
    feed(server, days[1], tmp_path / "answers-2.csv", session_id)
    with Client(server.address) as client:
        assert client.sessions.get(session_id).next_step == 4
