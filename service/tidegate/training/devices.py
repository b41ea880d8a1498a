"""Where training computes, and what makes it compute the same every time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from threadpoolctl import threadpool_limits

from tidegate.errors import ConfigError


def pick_device(name: Literal["cpu", "cuda", "auto"]) -> torch.device:
    """The device that a recipe names.

    Raises:
        ConfigError: It asks for a GPU, and PyTorch finds none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("training.device: expected 'cpu' or 'auto': PyTorch finds no GPU here, got 'cuda'")
    return torch.device(name)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, in PyTorch and in NumPy's linear algebra.

    How a sum is parted among threads decides its last digits, and for small sums threads cost more than they give.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Compute on one thread and, on the CPU, by operators that give the same bits every time."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    # As ONNX Runtime sets it for the thread that opens its first session: otherwise the second training
    # of a process would round other numbers to zero than the first.
    torch.set_flush_denormal(True)
    torch.use_deterministic_algorithms(device.type == "cpu")
    try:
        with one_thread():
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
