"""`tidegate inspect` as a process, against a real server."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import matplotlib.image
import numpy as np
import pytest

from support.recurrent_models import HIDDEN, forecaster, forecaster_package, traces_by_torch, walk
from support.server import ServerProcess
from tidegate.client import Client

NUM_STEPS = 12


def tidegate(*args: str, without: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command line, in an installation that may lack a module."""
    program = (
        f"import sys; sys.modules.update({{{without!r}: None}}); "
        f"from tidegate.cli import main; main({list(args)!r})"
    )
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("drawn")
    forecaster_package(folder / "models", forecaster("lstm", 2), "lstm")
    with ServerProcess(folder / "models", folder) as server:
        yield server


@pytest.fixture
def session_id(server: ServerProcess) -> str:
    """A session after three steps."""
    session_id = uuid4().hex
    with Client(server.address) as client, client.session("lstm", session_id) as session:
        session.steps(walk(NUM_STEPS)[:3])
    return session_id


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """The steps after those three, as a file."""
    path = tmp_path / "series.csv"
    rows = [f"{float(b)!r},{float(a)!r}" for a, b in walk(NUM_STEPS)[3:]]
    path.write_text("\n".join(["b,a", *rows]) + "\n")
    return path


def test_heat_maps_show_every_trace_of_every_layer(
    server: ServerProcess, session_id: str, series: Path, tmp_path: Path
) -> None:
    png = tmp_path / "gates.png"

    done = tidegate(
        "inspect", session_id, "--input", str(series), "--png", str(png), "--address", server.address
    )

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"{session_id}: steps 3 to 11: LSTM of {HIDDEN}, LSTM of {HIDDEN}\n"
    picture = matplotlib.image.imread(png)[..., :3]
    height, width, _ = picture.shape
    assert (width, height) == (6 * 384, 2 * 312 + 60), "six panels in each of two rows, and a title"
    for row in np.array_split(picture[60:], 2):
        for panel in np.array_split(row, 6, axis=1):
            colours = np.unique(panel.reshape(-1, 3), axis=0)
            assert len(colours) > NUM_STEPS, "a panel is blank"
            assert (panel.max(axis=2) - panel.min(axis=2)).max() > 0.3, "a panel has no colour"


def test_numbers_are_written_one_per_line(
    server: ServerProcess, session_id: str, series: Path, tmp_path: Path
) -> None:
    path = tmp_path / "gates.csv"

    done = tidegate(
        "inspect", session_id, "--input", str(series), "--csv", str(path), "--address", server.address
    )

    assert done.returncode == 0
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * 6 * (NUM_STEPS - 3) * HIDDEN
    expected = traces_by_torch(forecaster("lstm", 2), walk(NUM_STEPS))
    for line in lines:
        value = expected[int(line["layer"])][line["trace"]][int(line["step"]), int(line["unit"])]
        assert abs(float(line["value"]) - value) < 1e-5
        assert line["cell"] == "LSTM"


def test_the_session_is_where_it_was(
    server: ServerProcess, session_id: str, series: Path, tmp_path: Path
) -> None:
    args = ("--input", str(series), "--csv", str(tmp_path / "gates.csv"), "--address", server.address)

    tidegate("inspect", session_id, *args)

    with Client(server.address) as client:
        assert client.sessions.get(session_id).next_step == 3


def test_without_the_plot_extra_it_says_so_and_asks_no_server(series: Path, tmp_path: Path) -> None:
    args = (
        "inspect",
        "a",
        "--input",
        str(series),
        "--png",
        str(tmp_path / "a.png"),
        "--address",
        "127.0.0.1:1",
    )

    done = tidegate(*args, without="matplotlib")

    assert done.returncode == 1
    assert done.stderr == "error: tidegate inspect needs the plot extra: pip install 'tidegate[plot]'\n"


def test_what_is_wrong_with_the_call_or_the_file_is_told_in_one_line(
    server: ServerProcess, session_id: str, tmp_path: Path
) -> None:
    def said(text: str | None, session: str = session_id, *, out: str = "out.csv") -> str:
        path = tmp_path / "in.csv"
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        args = ("--input", str(path), "--csv", str(tmp_path / out), "--address", server.address)
        done = tidegate("inspect", session, *args)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        return done.stderr.replace(str(tmp_path), "")

    assert said("a,b\n1,2\n", "nope") == "error: no session 'nope'\n"
    assert said("a,c\n1,2\n") == "error: /in.csv: column 'b': no such column; got a, c\n"
    assert said("a,b\n1,2\n1,x\n") == "error: row 2: column 'b': expected a number, got 'x'\n"
    assert said("a,b\n") == "error: /in.csv: expected at least one row under the header, got none\n"
    assert said(None) == "error: /in.csv: No such file or directory\n"
    assert said("a,b\n1,2\n", out="no/out.csv") == "error: /no/out.csv: No such file or directory\n"


def test_it_wants_to_know_what_to_write() -> None:
    done = tidegate("inspect", "a", "--input", "a.csv")

    assert done.returncode == 2
    assert "expected --png, --csv or both" in done.stderr
