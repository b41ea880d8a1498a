"""A client that comes back quickly, so that a test of many breaks takes little time."""

from __future__ import annotations

from typing import Any

from support.sum_peer import SumPeer
from tidegate.client import AsyncClient, RecoveryOptions


def client_of(peer: SumPeer, **options: Any) -> AsyncClient:
    """A client of a peer; `options` are those of `RecoveryOptions`."""
    return AsyncClient(
        peer.address, recovery=RecoveryOptions(first_delay_s=0.005, max_delay_s=0.05, **options)
    )
