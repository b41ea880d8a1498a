"""A decaying state reaches 0 in the same step whichever thread computes it.

Each case needs a process of its own: the first ONNX Runtime session of a process decides.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
FIRST_DENORMAL = 127


def steps_to_zero(models: Path, *flags: str) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-m", "support.denormal_process", str(models), *flags],
        env={**os.environ, "PYTHONPATH": f"{TESTS.parent / 'service'}{os.pathsep}{TESTS}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_a_state_decays_to_0_in_the_same_step_on_every_thread(small_models: Path) -> None:
    found = steps_to_zero(small_models, "--as-served")

    assert found == dict.fromkeys(
        ("main thread", "worker thread", "engine, inline", "engine's thread"), FIRST_DENORMAL
    )


def test_without_a_first_session_in_the_main_thread_the_step_depends_on_the_thread(
    small_models: Path,
) -> None:
    found = steps_to_zero(small_models)

    assert len(set(found.values())) > 1, "the guard is not needed with this ONNX Runtime"
