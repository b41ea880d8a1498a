"""A file is read by the model's rules about time; what was filled is fed and not scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.naive_models import repeating_package
from support.timed_models import RULES, timed_package
from tidegate.errors import ConfigError
from tidegate.evaluation.series import read_series
from tidegate.model.manifest import Manifest
from tidegate.model.package import read_package


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return read_package(timed_package(tmp_path / "models")).manifest


def test_gaps_are_fed_and_not_scored(manifest: Manifest, hourly_file: Path) -> None:
    series = read_series(hourly_file, manifest, ("load",))

    assert (series.num_rows, series.num_filled, series.num_dropped) == (48, 1, 2)
    assert np.flatnonzero(np.isnan(series.truth[:, 0])).tolist() == [20, 30]
    assert series.truth[21, 0] == 121
    assert np.isnan(series.inputs[0][[20, 30], 0]).all()
    assert len(series.times) == 48
    assert series.times[20].hour == 18  # in UTC, two hours behind Vienna's summer


def test_values_that_repeat_the_last_one_are_not_scored(tmp_path: Path, hourly_file: Path) -> None:
    rules = RULES.model_copy(update={"missing": "repeat-last"})
    manifest = read_package(timed_package(tmp_path / "models", rules=rules)).manifest

    series = read_series(hourly_file, manifest, ("load",))

    assert series.inputs[0][[20, 30], 0].tolist() == [119, 129]
    assert np.flatnonzero(np.isnan(series.truth[:, 0])).tolist() == [20, 30]


def test_a_target_that_the_model_is_not_fed_with_is_read_too(manifest: Manifest, hourly_file: Path) -> None:
    series = read_series(hourly_file, manifest, ("note", "load"))

    assert series.truth[:3].tolist() == [[0, 100], [1, 101], [2, 102]]


def test_a_file_without_times_has_none(tmp_path: Path) -> None:
    manifest = read_package(repeating_package(tmp_path, ("a", "b"), 2)).manifest
    path = tmp_path / "plain.csv"
    path.write_text("b,a\n1,2\n3,4\n")

    series = read_series(path, manifest, ("a", "b"))

    assert series.times == ()
    assert series.truth.tolist() == [[2, 1], [4, 3]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("time,note\n", "column 'load'"),
        ("time,load\n", "expected rows, got none"),
        ("time,load\n2024-05-01,1\n2024-05-01T01:00,much\n", "row 2: column 'load'"),
        ("time,load\n2024-05-01,1\n2024-05-09,1\n", "row 2: time .* leaves a gap"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    manifest: Manifest, tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)

    with pytest.raises(ConfigError, match=told) as caught:
        read_series(path, manifest, ("load",))

    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.csv: No such file"):
        read_series(tmp_path / "none.csv", manifest, ("load",))
