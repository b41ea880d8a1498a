"""How much of the machine others took while something was measured: a figure is worth as much as this is little."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

from bench.setting import Numbers

NOTICEABLE_CORES = 0.03


@dataclass(frozen=True)
class Usage:
    """CPU-seconds since the machine's start, at one moment.

    Attributes:
        at_s: When, by `time.perf_counter`.
        all_s: All processes on all cores.
        ours_s: This process and those of its children that have ended.
        stolen_s: The hypervisor's other guests, on our cores.
    """

    at_s: float
    all_s: float
    ours_s: float
    stolen_s: float


def usage() -> Usage:
    """Look now; no child may be running."""
    fields = Path("/proc/stat").read_text().partition("\n")[0].split()
    user, nice, system, *_, stolen = (int(f) / os.sysconf("SC_CLK_TCK") for f in fields[1:9])
    own, children = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    ours_s = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return Usage(time.perf_counter(), user + nice + system, ours_s, stolen)


def foreign_cores(before: Usage, after: Usage) -> Numbers:
    """What others took between two looks, in cores."""
    seconds = after.at_s - before.at_s
    others_s = (after.all_s - before.all_s) - (after.ours_s - before.ours_s)
    return {
        "used_by_others": max(0.0, others_s) / seconds,
        "stolen_by_hypervisor": (after.stolen_s - before.stolen_s) / seconds,
    }


def warning(cores: Numbers) -> str:
    """A line for people; empty when nobody else was noticeable."""
    if sum(cores.values()) <= NOTICEABLE_CORES:
        return ""
    return (
        f"  noisy: {cores['used_by_others']:.2f} cores were busy with something else meanwhile, "
        f"{cores['stolen_by_hypervisor']:.2f} were taken by the hypervisor"
    )
