"""What several tests of evaluations share."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.server import MODELS
from tidegate.evaluation.series import Series, read_series
from tidegate.evaluation.streaming import load_runner
from tidegate.model.package import ModelPackage, read_package
from tidegate.runner.runner import Runner

DEMO = MODELS / "co2-weekly"


@pytest.fixture(scope="session")
def demo_package() -> ModelPackage:
    """The committed package: direct forecasts, batch-exact."""
    return read_package(DEMO / "1")


@pytest.fixture
def demo_runner(demo_package: ModelPackage) -> Runner:
    """It, loaded."""
    return load_runner(demo_package)


@pytest.fixture(scope="session")
def demo_series(demo_package: ModelPackage) -> Series:
    """The file that it was trained on."""
    return read_series(DEMO / "co2.csv", demo_package.manifest, ("co2_ppm",))


@pytest.fixture
def hourly_file(tmp_path: Path) -> Path:
    """Two days of hours: a gap, two rows that repeat, a missing cell."""
    lines = ["time,load,note"]
    for hour in range(48):
        if hour == 20:
            continue
        cell = "" if hour == 30 else str(100 + hour)
        lines.append(f"2024-05-{1 + hour // 24:02}T{hour % 24:02}:00,{cell},{hour % 7}")
    lines[11:11] = [lines[10], lines[5]]
    path = tmp_path / "hourly.csv"
    path.write_text("\n".join(lines) + "\n")
    return path
