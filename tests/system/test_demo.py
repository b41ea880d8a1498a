"""`make demo`, as a new user sees it on a pipe."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "out" / "co2-forecast.png"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
LIVE_LINE = r"step +\d+  \d+\.\d ppm  next week \d+\.\d \(\d+\.\d … \d+\.\d\)  \d+\.\d ms"


@pytest.mark.slow
def test_the_demo_works_twice_in_a_row() -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("plotext")
    PICTURE.unlink(missing_ok=True)

    for _ in range(2):
        done = subprocess.run(
            [sys.executable, ROOT / "examples" / "demo.py"], capture_output=True, text=True, check=False
        )

        assert (done.returncode, done.stderr) == (0, "")
        lines = [line for line in done.stdout.splitlines() if line.startswith("step")]
        assert [line for line in lines if not re.fullmatch(LIVE_LINE, line)] == []
        assert lines[-1].startswith("step 2283  371.5 ppm")
        assert re.search(r"p50 \d+\.\d\d ms, p99 \d+\.\d\d ms", done.stdout)
    errors = dict(re.findall(r"^  (\S.*?) {2,}(\d\.\d\d) ppm$", done.stdout, re.MULTILINE))
    assert float(errors["this model"]) < float(errors["repeat last"])
    assert float(errors["this model"]) < float(errors["same week last year"])
    assert "weeks from now" in done.stdout
    assert PICTURE.read_bytes().startswith(PNG_SIGNATURE)
