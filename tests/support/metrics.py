"""What a server's `/metrics` says, as numbers."""

from __future__ import annotations

import urllib.request

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from support.server import ServerProcess
from support.waiting import eventually

TIMEOUT_S = 10.0


def families(server: ServerProcess) -> dict[str, Metric]:
    """Every metric family by its name, without `_total`."""
    with urllib.request.urlopen(f"{server.http_url}/metrics", timeout=TIMEOUT_S) as response:
        text = response.read().decode()
    return {f.name: f for f in text_string_to_metric_families(text)}


def value(server: ServerProcess, sample: str, **labels: str) -> float:
    """The sum of a sample over all series that have these labels; 0 if there is none."""
    return sum(
        s.value
        for family in families(server).values()
        for s in family.samples
        if s.name == sample and labels.items() <= s.labels.items()
    )


async def becomes(server: ServerProcess, expected: float, sample: str, **labels: str) -> None:
    """Wait until a sample has this value: a client has its answer before the server has booked that.

    Raises:
        AssertionError: It never had.
    """

    async def is_so() -> bool:
        return value(server, sample, **labels) == expected

    await eventually(is_so)
