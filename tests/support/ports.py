"""Ports for servers that go and come back on the same one, and for places where nobody listens.

A port that the system chooses is free again while its server is down, and the system may then give it to anybody who
asks, in another worker's test too. These lie outside of the range from which it chooses, and no two workers share one.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

FIRST, END = 10_000, 65_536
MAX_WORKERS = 16
SYSTEMS_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def _of_this_worker() -> Iterator[int]:
    """Ports in random order: another run of the tests on this machine draws from the same."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    low, high = map(int, SYSTEMS_RANGE.read_text().split())
    mine = range(FIRST + worker % MAX_WORKERS, END, MAX_WORKERS)
    outside = [port for port in mine if not low <= port <= high]
    ports = outside or list(mine)
    random.shuffle(ports)
    yield from ports


_ports = _of_this_worker()


def free_port() -> int:
    """A port on which nobody listens, and that no other test is given."""
    return next(port for port in _ports if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
