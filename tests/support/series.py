"""Inputs of the `lstm` package, and what a session of its own answers to them."""

from __future__ import annotations

import numpy as np

from support.server import ServerProcess
from tidegate.client import AsyncClient
from tidegate.tensor import Array


def series(num_steps: int, seed: int = 1) -> Array:
    """Raw inputs of the `lstm` package, (T, 3)."""
    return np.random.default_rng(seed).normal(0, 1, (num_steps, 3)).astype(np.float32)


async def answers_alone(server: ServerProcess, x: Array) -> Array:
    """What a session of its own answers, one step at a time."""
    async with AsyncClient(server.address) as client, client.session("lstm") as session:
        return np.stack([await session.step(row) for row in x])
