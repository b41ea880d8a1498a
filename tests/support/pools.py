"""What pools of small models are made with, and a package that they refuse."""

from __future__ import annotations

from pathlib import Path

from tidegate.engine.pool import PoolOptions
from tidegate.runner.runner import RunnerOptions

OPTIONS = PoolOptions(
    runner=RunnerOptions(max_batch_size=4, max_slice_steps=4, max_sessions=8), max_queue_delay_us=0
)


def spoil(package: Path) -> None:
    (package / "model.onnx").write_bytes(b"not what was hashed")
