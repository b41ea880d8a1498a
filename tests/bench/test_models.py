"""The packages that the bench makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.models import DEFAULT, STAC_A, STAC_B, LstmShape, write_lstm
from tidegate.model.package import read_package
from tidegate.runner.runner import BatchExactness, Runner, RunnerOptions


@pytest.mark.parametrize("shape", [DEFAULT, STAC_A, STAC_B], ids=lambda s: s.name)
def test_the_packages_are_batch_exact_and_their_states_have_the_size_that_is_claimed(
    shape: LstmShape, tmp_path: Path
) -> None:
    runner = Runner(read_package(write_lstm(tmp_path, shape)), RunnerOptions(max_sessions=2))

    assert runner.batch_exactness is BatchExactness.EXACT
    assert runner.arena.slot_bytes == shape.state_bytes


def test_the_default_shape_carries_two_kilobytes() -> None:
    assert DEFAULT.state_bytes == 2048
