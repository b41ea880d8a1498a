"""What is measured: one module per group of figures that share a run.

A group is a coroutine that takes a `Setting` and reports the figures that it is registered for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from bench.figures.checkpoint import measure_checkpoint
from bench.figures.engine import measure_engine
from bench.figures.frames import measure_frames
from bench.figures.history import measure_history
from bench.figures.latency import measure_latency
from bench.figures.million import measure_million
from bench.figures.resume import measure_resume
from bench.figures.sequences import measure_sequences
from bench.figures.single import measure_single
from bench.figures.soak import measure_soak
from bench.figures.start import measure_start
from bench.figures.stored import measure_stored
from bench.setting import Setting

Group: TypeAlias = Callable[[Setting], Awaitable[None]]

GROUPS: dict[Group, tuple[str, ...]] = {
    measure_start: ("start.seconds",),
    measure_engine: ("engine.efficiency",),
    measure_frames: ("frames.efficiency", "frames.rate"),
    measure_single: ("single.efficiency",),
    measure_sequences: ("oip.efficiency", "oip.durable"),
    measure_latency: ("single.latency", "single.tail"),
    measure_history: ("history.tail", "history.share"),
    measure_million: ("million.open", "million.latency", "million.memory"),
    measure_checkpoint: ("checkpoint.overhead",),
    measure_stored: ("checkpoint.rate", "start.million"),
    measure_resume: ("resume.seconds",),
    measure_soak: ("soak.growth",),
}
"""The figures of each group, in the order of measurement."""
