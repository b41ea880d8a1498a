"""The machine that figures come from: its cores, and what to write beside them."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import onnxruntime

from tidegate import __version__


@dataclass(frozen=True)
class Cores:
    """Where the two sides run; equal on a machine that has only one core.

    Attributes:
        server: The server, the echo, raw ONNX Runtime: whatever is measured.
        load: The load generator.
    """

    server: int
    load: int


def choose_cores() -> Cores:
    """Two cores that share no execution units, of those that this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    server = usable[0]
    others = [core for core in usable if core not in _siblings(server)] or usable[1:] or [server]
    return Cores(server=server, load=others[0])


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Pin this thread; a process that it starts inside inherits the core before its first instruction."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def describe(cores: Cores) -> dict[str, str | int | float]:
    """CPU, cores, memory, versions and date, in plain values."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores_usable": len(os.sched_getaffinity(0)),
        "core_of_server": cores.server,
        "core_of_load": cores.load,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "tidegate": __version__,
        "onnxruntime": onnxruntime.__version__,
        "grpcio": grpc.__version__,
        "numpy": np.__version__,
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _siblings(core: int) -> set[int]:
    """The hardware threads of a core's execution units."""
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    if not path.exists():
        return {core}
    siblings = set[int]()
    for span in path.read_text().strip().split(","):
        first, _, last = span.partition("-")
        siblings |= set(range(int(first), int(last or first) + 1))
    return siblings
