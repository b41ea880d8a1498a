"""Forecasts and inspections of a model that knows the hour, from times instead of features."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from support.ids import new_id
from support.server import ServerProcess
from support.timed_models import FEATURES, MODEL, timed_package
from tidegate.cli.forecast import forecast
from tidegate.cli.known_ahead import KnownColumns, step_times
from tidegate.cli.rows import read_series
from tidegate.client import Client, StepMaker, calendar_inputs, coming_times
from tidegate.errors import ConfigError, InvalidRequest
from tidegate.model.time_rules import TimeRules
from tidegate.tensor import Array

START = datetime(2024, 3, 30, 12)
"""In the zone of the model, whose clocks went from 2 to 3 in the night after."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("known")
    timed_package(folder / "models")
    with ServerProcess(folder / "models", folder) as server:
        yield server


@pytest.fixture
def session_id(server: ServerProcess) -> str:
    """A session whose newest row is of 14 hours."""
    session_id = new_id()
    with Client(server.address) as client, client.session(MODEL, session_id) as session:
        maker = StepMaker(session.model.inputs, session.model.time)
        for hour in (0, 2):
            session.run(maker.steps(START + timedelta(hours=hour), {"load": hour / 2}))
    return session_id


def run(server: ServerProcess, session_id: str, *flags: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(forecast, [session_id, "--address", server.address, *flags], input=stdin)


def table(path: Path) -> dict[str, list[str]]:
    header, *rows = csv.reader(path.read_text().splitlines())
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}


def by_hand(server: ServerProcess, session_id: str, num_steps: int) -> Array:
    """The forecast by the library."""
    with Client(server.address) as client:
        model = client.models.get(MODEL)
        times = coming_times(model.time, START + timedelta(hours=2), num_steps)
        future = calendar_inputs(model.inputs, model.time, times)
        y: Array = client.sessions.forecast(session_id, num_steps, future).outputs["y"]
    return y[:, 0]


def test_the_calendar_of_coming_steps_follows_from_the_time_of_the_newest_row(
    server: ServerProcess, session_id: str, tmp_path: Path
) -> None:
    output = tmp_path / "f.csv"

    done = run(
        server, session_id, "--steps", "13", "--from-time", "2024-03-30 14:00", "--output", str(output)
    )

    assert done.exit_code == 0, done.output
    found = table(output)
    assert list(found) == ["step", "ahead", "time", *(f"x_{name}" for name in FEATURES), "y"]
    assert found["step"][0] == "3"
    assert [time[11:] for time in found["time"][10:]] == [
        "01:00:00+01:00",
        "03:00:00+02:00",
        "04:00:00+02:00",
    ]
    hours = np.array([15, 16, 17, 18, 19, 20, 21, 22, 23, 0, 1, 3, 4])
    np.testing.assert_allclose(
        np.array(found["x_hour_of_day_sin"], float), np.sin(2 * np.pi * hours / 24), atol=1e-6
    )
    np.testing.assert_array_equal(np.array(found["y"], np.float32), by_hand(server, session_id, 13))


def test_times_may_come_from_a_file_and_go_on_behind_its_end(
    server: ServerProcess, session_id: str, tmp_path: Path
) -> None:
    output = tmp_path / "f.csv"
    future = "time,load\n2024-03-30 15:00,\n2024-03-30 16:00,0.5\n"

    done = run(server, session_id, "--steps", "4", "--future", "-", "--output", str(output), stdin=future)

    assert done.exit_code == 0, done.output
    found = table(output)
    assert [time[11:16] for time in found["time"]] == ["15:00", "16:00", "17:00", "18:00"]
    assert found["x_load"][1] == "0.5"
    assert found["x_load"][2] == found["y"][1]


def test_a_file_as_a_spreadsheet_writes_it_may_know_more_than_is_asked_for(
    server: ServerProcess, session_id: str
) -> None:
    rows = "2024-03-30 15:00,0.25\r\n2024-03-30 16:00,NaN\r\n2024-03-30 17:00,0.5\r\n"

    done = run(
        server, session_id, "--steps=2", "--future=-", "--output=-", stdin=f"\ufefftime,load\r\n{rows}"
    )

    assert done.exit_code == 0, done.exception
    header, *found = csv.reader(done.stdout.splitlines())
    loads = [row[header.index("x_load")] for row in found]
    assert loads == ["0.25", found[0][header.index("y")]]
    assert not Path("-").exists()


def test_a_model_without_a_cadence_takes_any_times_that_go_forward() -> None:
    rules = TimeRules(column="t")
    times = [datetime(2024, 1, day, tzinfo=UTC) for day in (1, 5, 3)]

    assert step_times(rules, None, KnownColumns({}, times[:2]), 2) == times[:2]
    with pytest.raises(InvalidRequest, match="row 3: expected a time behind 2024-01-05"):
        step_times(rules, None, KnownColumns({}, times), 3)


def test_what_is_computed_and_has_no_time_is_told_with_where_it_comes_from(
    server: ServerProcess, session_id: str
) -> None:
    done = run(server, session_id, "--steps", "4")

    assert str(done.exception).endswith(
        "hour_of_day_cos, hour_of_day_sin: computed from the time, which --from-time gives, or a column 'time' "
        "in --future"
    )


@pytest.mark.parametrize(
    ("flags", "stdin", "problem"),
    [
        (("--from-time", "2024-03-30 14:00"), "time\n2024-03-30 16:00\n", "row 1: expected a time about"),
        ((), "time\nsoon\n", "row 1: column 'time': expected an ISO 8601 date or time, got 'soon'"),
        ((), "time\n2024-03-30 15:00\n2024-03-30 17:00\n", "row 2: expected a time about 2024-03-30T15:00"),
        ((), "time\n2024-03-30 15:00\n2024-03-30 15:00\n", "row 2: expected a time about 2024-03-30T15:00"),
        ((), "time,load\n2024-03-30 15:00\n", "row 1: expected 2 cells, got 1"),
        ((), "load,time\n1,2024-03-30 15:00\n2\n", "row 2: expected 2 cells, got 1"),
        ((), "time,load,load\n2024-03-30 15:00,1,2\n", "column 'load': more than once"),
        (("--from-time", "2024-03-30 14:00"), "time,load\n", "expected at least one row under the header"),
        ((), f"time\n{'1' * 200_000}\n", "row 1: field larger than"),
        ((), "hour_of_day_sin\n1\n", "expected one of the columns load, time, got hour_of_day_sin"),
        (("--from-time", "9998-12-31 23:00"), None, "expected a year"),
    ],
)
def test_times_that_will_not_do_are_told(
    server: ServerProcess, session_id: str, flags: tuple[str, ...], stdin: str | None, problem: str
) -> None:
    future = ("--future", "-") if stdin else ()

    done = run(server, session_id, "--steps", "4", *flags, *future, stdin=stdin)

    assert problem in str(done.exception)


def test_a_time_on_the_command_line_that_is_none_is_a_slip(server: ServerProcess, session_id: str) -> None:
    done = run(server, session_id, "--steps", "4", "--from-time", "noon")

    assert (done.exit_code, "--from-time: expected an ISO 8601" in done.output) == (2, True)


def test_a_model_that_looks_ahead_by_itself_is_shown_with_times(
    demo_server: ServerProcess, tmp_path: Path
) -> None:
    session_id, output = new_id(), tmp_path / "f.csv"
    with Client(demo_server.address) as client, client.session("co2-weekly", session_id) as session:
        session.steps([370.0, 371.0])

    done = run(demo_server, session_id, "--steps", "2", "--from-time", "2001-12-29", "--output", str(output))

    assert done.exit_code == 0, done.output
    assert table(output)["time"] == ["2002-01-05T00:00:00+00:00", "2002-01-12T00:00:00+00:00"]


def test_a_series_to_inspect_has_the_steps_of_its_gaps(server: ServerProcess) -> None:
    with Client(server.address) as client:
        model = client.models.get(MODEL)
    lines = ["time,load\n", "2024-03-30 15:00,1\n", "2024-03-30 15:00,2\n", "2024-03-30 17:00,3\n"]

    found = read_series(model, lines, source="series.csv")

    np.testing.assert_array_equal(found["x"][:, 0], [1, np.nan, 3])
    with pytest.raises(ConfigError, match=r"series\.csv: expected at least one row"):
        read_series(model, lines[:1], source="series.csv")
