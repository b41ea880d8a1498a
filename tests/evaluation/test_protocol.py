"""The protocol of the ETTh1 benchmark, on figures that others have published or computed.

A package that repeats the last value is evaluated like any other; what it and the naive forecasts beside it
get is known. The file is not ours to copy: without it the test is skipped.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from support.naive_models import repeating_package
from tidegate.evaluation.evaluation import Plan, evaluate_package
from tidegate.evaluation.series import read_series
from tidegate.evaluation.streaming import load_runner
from tidegate.model.data_files import DATA_VARIABLE, DEFAULT_FOLDER
from tidegate.model.package import read_package
from tidegate.model.parsing import parse_time

DATA = Path(os.environ.get(DATA_VARIABLE) or DEFAULT_FOLDER) / "etth1" / "ETTh1.csv"
COLUMNS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")

REPEAT_LAST = {1: (0.175, 0.255), 24: (1.222, 0.671), 96: (1.294, 0.713)}
SAME_HOUR = {1: (0.424, 0.389), 24: (0.424, 0.389), 96: (0.512, 0.433)}


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_file(), reason=f"{DATA} is not there ({DATA_VARIABLE} names the folder)")
def test_naive_forecasts_get_the_figures_that_are_known(tmp_path: Path) -> None:
    # Standardised by the training rows, as the recipe in the package says: the first 8640.
    package = read_package(
        repeating_package(
            tmp_path,
            COLUMNS,
            96,
            time={"column": "date", "cadence_s": 3600},
            provenance={
                "recipe": {"data": {"validation_from": "2017-06-26"}},
                "data_sha256": hashlib.sha256(DATA.read_bytes()).hexdigest(),
            },
        )
    )
    series = read_series(DATA, package.manifest, COLUMNS)
    plan = Plan(
        first=parse_time("2017-10-24"),
        until=parse_time("2018-02-21"),
        horizons=(1, 24, 96),
        season_steps=24,
    )

    found = evaluate_package(load_runner(package), series, plan)

    figures = found.up_to.overall(found.unit.std)
    assert (found.split.start, found.split.stop) == (11520, 14400)
    assert found.unit.source == "training rows"
    assert [found.num_windows(h) for h in (1, 24, 96)] == [2880, 2857, 2785]
    for column, h in enumerate((1, 24, 96)):
        for name, expected in (("", REPEAT_LAST), ("_repeat_last", REPEAT_LAST), ("_same_season", SAME_HOUR)):
            mse, mae = expected[h]
            assert figures[f"mse{name}"][column] == pytest.approx(mse, abs=6e-4), (h, name)
            assert figures[f"mae{name}"][column] == pytest.approx(mae, abs=6e-4), (h, name)
