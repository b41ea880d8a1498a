"""`tidegate evaluate`: tables, JSON and pictures, with the libraries that a server has."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support.naive_models import repeating_package
from support.server import MODELS, ServerProcess
from tidegate.client import Client

ROOT = Path(__file__).parents[2]
DATA = MODELS / "co2-weekly" / "co2.csv"
Evaluate = Callable[..., tuple[int, str, str]]


def rows_of(markdown: str, title: str) -> list[dict[str, str]]:
    """The rows of the table under a title, by heading."""
    table = markdown.partition(title)[2].partition("\n\n")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def test_a_package_of_the_repository_is_scored_on_its_held_out_rows(evaluate: Evaluate) -> None:
    code, out, err = evaluate("co2-weekly", "--models", MODELS, "--horizons", "26,1,4")

    assert code == 0
    assert re.search(r"scored +313 rows, from 1996-01-06T00:00:00\+00:00 until the end", err)
    assert re.search(r"interval +quantiles 0\.1 to 0\.9, should hold 80%", err)
    rows = rows_of(out, "The same in the units of the data")
    assert [row["steps ahead"] for row in rows] == ["1", "4", "26"]
    # As models/README.md has them, for the rows from 1996 on.
    assert rows[0]["MAE"] == "0.279"
    assert rows[0]["MAE, repeat last"] == "0.391"
    assert [line.count("|") for line in out.splitlines() if line.startswith("| 26 |")] == [12, 11]


def test_a_folder_and_a_file_are_taken_as_they_are(evaluate: Evaluate, tmp_path: Path) -> None:
    by_name = evaluate("co2-weekly/1", "--models", MODELS, "--json", "-")
    by_folder = evaluate(MODELS / "co2-weekly" / "1", DATA, "--json", tmp_path / "figures.json")
    by_model = evaluate(MODELS / "co2-weekly", DATA, "--json", "-")

    figures = json.loads(by_name[1])
    assert json.loads((tmp_path / "figures.json").read_text()) == figures == json.loads(by_model[1])
    assert "| steps ahead |" in by_folder[1]
    assert figures["model"] == "co2-weekly/1"
    assert list(figures["up_to"]["windows"]) == ["1", "6", "26"]
    assert len(figures["at"]["mae"]) == 26


def test_several_packages_are_told_by_mean_and_spread(evaluate: Evaluate, tmp_path: Path) -> None:
    models, data = tmp_path / "models", tmp_path / "plain.csv"
    repeating_package(models, ("a",), 2)
    repeating_package(models, ("a",), 2, version="2", anomaly=True)
    repeating_package(models, ("a",), 2, version="3")
    data.write_text("a\n" + "".join(f"{k % 7}\n" for k in range(50)))

    one = evaluate("repeating/1", data, "--models", models)
    both = evaluate("repeating/1", data, "--with", "repeating/3", "--models", models)
    other = evaluate("repeating/1", data, "--with", "repeating/2", "--models", models)
    drawn = evaluate(
        "repeating/1", data, "--with", "repeating/3", "--models", models, "--png", tmp_path / "p"
    )

    assert "model     repeating/1, repeating/3\n" in both[2]
    assert rows_of(both[1], "Means of 2 packages. Averages from 1 up") == rows_of(
        one[1], "Averages from 1 up"
    )
    # Only the table of the means has rows that begin with the steps ahead: whoever reads it is not misled.
    assert rows_of(both[1], "Their spread") == [
        {"steps ahead": "MSE", "1": "0", "2": "0"},
        {"steps ahead": "MAE", "1": "0", "2": "0"},
    ]
    assert other[0] == 1
    assert "anomaly: expected repeating/2 to forecast the same" in other[2]
    assert drawn[0] == 2
    assert "--png draws one package: leave out --with" in drawn[2]
    assert not (tmp_path / "p").exists()


def test_rows_can_be_chosen_by_time(evaluate: Evaluate) -> None:
    code, out, _ = evaluate(
        MODELS / "co2-weekly", DATA, "--from", "1999-01-01", "--until", "2000-01-01", "--json", "-"
    )

    split = json.loads(out)["split"]
    assert code == 0
    assert split["from"].startswith("1999-01-02")
    assert split["until"].startswith("2000-01-01")
    assert split["rows"] == 52


def test_rows_that_were_not_held_out_are_told(evaluate: Evaluate) -> None:
    # Weeks of the last year before test_from, and all that are held out.
    _, out, err = evaluate(MODELS / "co2-weekly", DATA, "--from", "1995-01-01", "--json", "-")
    held_out = evaluate(MODELS / "co2-weekly", DATA, "--json", "-")

    assert json.loads(out)["rows_not_held_out"] == 52
    assert re.search(r"held out +not all: 52 of these rows were trained or chosen on\n", err)
    assert json.loads(held_out[1])["rows_not_held_out"] == 0
    assert "held out" not in held_out[2]


def test_a_folder_of_something_else_does_not_hide_a_model_of_its_name(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "co2-weekly" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    code, out, _ = evaluate("co2-weekly", "--models", MODELS, "--json", "-")
    told = evaluate("co2-weekly/data", "--models", MODELS)

    assert (code, json.loads(out)["model"]) == (0, "co2-weekly/1")
    assert told[0] == 1
    assert told[2] == (
        "error: co2-weekly/data: expected a folder with manifest.toml, or with versions that have one\n"
    )


def test_the_newest_version_of_a_folder_is_meant(evaluate: Evaluate, tmp_path: Path) -> None:
    data = tmp_path / "plain.csv"
    data.write_text("a\n" + "".join(f"{k}\n" for k in range(9)))
    for version in ("2", "10"):
        repeating_package(tmp_path, ("a",), 2, version=version)

    _, out, _ = evaluate(tmp_path / "repeating", data, "--json", "-")

    assert json.loads(out)["model"] == "repeating/10"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["nothing"], "no model 'nothing'"),
        (["co2-weekly/9"], "no version '9'"),
        (["co2-weekly", "none.csv"], r"none\.csv: No such file or directory"),
        (["co2-weekly", "--horizons", "27"], "1 to 26 steps ahead, got 27"),
        (["co2-weekly", "--horizons", "1,x"], "--horizons: expected whole numbers above 0, got '1,x'"),
        (["co2-weekly", "--from", "soon"], "--from: expected an ISO 8601 date or time, got 'soon'"),
        (["co2-weekly", "--from", "2030-01-01"], "split: expected rows from 2030"),
        (["co2-weekly", "--output", "y"], "output: expected one of forecast, got 'y'"),
        (["co2-weekly", "--json", "no/such/folder.json"], "folder.json: No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(evaluate: Evaluate, args: list[str], told: str) -> None:
    code, _, err = evaluate(*args, "--models", MODELS)

    assert code != 0
    assert re.search(told, err.splitlines()[-1])


def test_a_package_without_a_recipe_needs_a_file(evaluate: Evaluate, tmp_path: Path) -> None:
    repeating_package(tmp_path, ("a",), 2)

    code, _, err = evaluate("repeating", "--models", tmp_path)

    assert code == 1
    assert err == "error: DATA: required, because repeating/1 has no recipe that names a file\n"


def test_a_recipe_whose_file_is_not_there_is_told(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path / "data"))
    repeating_package(
        tmp_path / "models", ("a",), 2, provenance={"recipe": {"data": {"file": "x/series.csv"}}}
    )

    code, _, err = evaluate("repeating", "--models", tmp_path / "models")

    assert code == 1
    assert "'x/series.csv': no such file" in err
    assert str(tmp_path / "models" / "repeating" / "x") in err
    assert str(tmp_path / "data" / "x") in err


def test_the_data_folder_has_what_does_not_lie_beside_the_recipe(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "x").mkdir(parents=True)
    (tmp_path / "data" / "x" / "series.csv").write_text("a\n" + "".join(f"{k}\n" for k in range(9)))
    repeating_package(
        tmp_path / "models", ("a",), 2, provenance={"recipe": {"data": {"file": "x/series.csv"}}}
    )

    code, out, _ = evaluate("repeating", "--models", tmp_path / "models", "--json", "-")

    assert code == 0
    assert json.loads(out)["targets"]["a"]["up_to"]["mae"] == {"1": 1, "2": 1.5}


def run_without(module: str, *args: object) -> subprocess.CompletedProcess[str]:
    """The command in a process where a library cannot be imported, and which tells what it imported."""
    program = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "import atexit; atexit.register(lambda: print('TORCH' if sys.modules.get('torch') else 'NO TORCH'))\n"
        "from tidegate.cli import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", program, "evaluate", *(str(arg) for arg in args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_it_needs_no_pytorch() -> None:
    done = run_without("torch", "co2-weekly", "--json", "-")

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("}\nNO TORCH\n")


def test_pictures_without_their_library_name_the_extra(tmp_path: Path) -> None:
    done = run_without("matplotlib", "co2-weekly", "--png", tmp_path / "pictures")

    assert done.returncode == 1
    assert "tidegate evaluate needs the plot extra" in done.stderr
    assert not (tmp_path / "pictures").exists()


@pytest.mark.slow
def test_a_module_of_ones_own_is_exported_served_and_evaluated(evaluate: Evaluate, tmp_path: Path) -> None:
    program = ROOT / "examples" / "forecast_your_own.py"
    assert len(program.read_text().splitlines()) <= 60
    subprocess.run([sys.executable, program, tmp_path], check=True, capture_output=True, timeout=120)

    code, out, _ = evaluate(
        "drift", DATA, "--models", tmp_path, "--from", "1996-01-01", "--season-steps", "52", "--json", "-"
    )

    figures = json.loads(out)
    mae = figures["targets"]["co2_ppm"]["at"]["mae"]
    naive = figures["targets"]["co2_ppm"]["at"]["mae_same_season"]
    assert code == 0
    assert [mae[str(h)] < naive[str(h)] / 2 for h in (1, 13, 26)] == [True] * 3

    values = np.sin(np.arange(120) / 8)
    with (
        ServerProcess(tmp_path, tmp_path / "server") as server,
        Client(server.address) as client,
        client.session("drift") as session,
    ):
        answers = session.run(values[:, None].astype(np.float32))["forecast"]
        made = client.sessions.forecast(session.session_id, 26)
    drift = 0.0
    for t, value in enumerate(values):
        drift += 0.1 * (value - (values[t - 52] if t >= 52 else 0) - drift)
    assert answers[-1] == pytest.approx(values[-52:-26] + drift, abs=1e-5)
    assert made.outputs["forecast"].tolist() == answers[-1].tolist()
