"""A state that is said to carry an answer must hold it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.forecast_models import direct_package, feedback_package
from tidegate.errors import PackageError
from tidegate.model.package import read_package
from tidegate.runner.runner import Runner, RunnerOptions

OPTIONS = RunnerOptions(max_batch_size=4, max_sessions=4)


@pytest.mark.parametrize("make", [direct_package, feedback_package])
def test_a_package_that_carries_its_answer_is_loaded(tmp_path: Path, make: type) -> None:
    runner = Runner(read_package(make(tmp_path)), OPTIONS)

    assert runner.batch_exactness == "exact"


def test_a_state_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    package = read_package(direct_package(tmp_path, carrier="zero"))

    with pytest.raises(PackageError, match="direct/1: state 'y_last': expected the answer of output 'y'"):
        Runner(package, OPTIONS)
