"""The stages of a step are told apart, and together they are what it takes."""

from __future__ import annotations

from pathlib import Path

from bench.models import DEFAULT, write_lstm
from bench.stages import STAGES, measure
from tidegate.config import load_settings


async def test_every_stage_is_measured_and_none_twice(tmp_path: Path) -> None:
    write_lstm(tmp_path, DEFAULT)

    found = await measure(load_settings({"models": tmp_path, "store": "memory:"}), rows=1)

    stages = [found[stage] for stage in STAGES]
    assert min(stages) > 0
    assert sum(stages) < max(found.values())
