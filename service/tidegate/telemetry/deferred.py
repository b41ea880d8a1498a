"""Metrics for the hot path: counting costs an append or an addition, the rest is done at the scrape.

prometheus_client's own histogram takes a lock per sample and walks its buckets in Python, about as much
as the arithmetic of a small model's step. These have the same exposition and are as exact; samples wait
in a queue until somebody scrapes, or until there are `MAX_WAITING` of them.

One thread counts (the event loop's); any thread may scrape.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

MAX_WAITING = 4096
"""Samples that wait before they are sorted into buckets."""


class HistogramChild:
    """One series of a histogram."""

    def __init__(self, bounds: NDArray[np.float64]) -> None:
        self._bounds = bounds
        self._waiting: deque[float] = deque()
        self._lock = threading.Lock()
        self._counts: NDArray[np.int64] = np.zeros(len(bounds) + 1, np.int64)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a sample."""
        self._waiting.append(value)
        if len(self._waiting) >= MAX_WAITING:
            self._sort()

    def totals(self) -> tuple[NDArray[np.int64], float]:
        """Samples up to each bound and in all, and their sum."""
        self._sort()
        with self._lock:
            return np.cumsum(self._counts), self._sum

    def _sort(self) -> None:
        with self._lock:
            values = np.array([self._waiting.popleft() for _ in range(len(self._waiting))])
            self._counts += np.bincount(np.searchsorted(self._bounds, values), minlength=len(self._counts))
            self._sum += float(values.sum())


class CounterChild:
    """One series of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        """Count."""
        self.value += amount


class DeferredHistogram(Collector):
    """A histogram whose samples are sorted into buckets when somebody looks."""

    def __init__(self, name: str, text: str, label_names: Sequence[str], buckets: Sequence[float]) -> None:
        self._name, self._text, self.label_names = name, text, tuple(label_names)
        self._bounds = np.array(buckets, np.float64)
        self._bound_names = [*(str(float(b)) for b in buckets), "+Inf"]
        self._children: dict[tuple[str, ...], HistogramChild] = {}

    def labels(self, *values: str) -> HistogramChild:
        """The series with these label values, made at first need."""
        return self._children.setdefault(values, HistogramChild(self._bounds))

    def describe(self) -> Iterable[Metric]:
        """The family without samples."""
        yield self._family()

    def collect(self) -> Iterable[Metric]:
        """The family as it stands."""
        family = self._family()
        for values, child in list(self._children.items()):
            counts, total = child.totals()
            buckets = list(zip(self._bound_names, counts.tolist(), strict=True))
            family.add_metric(values, buckets=buckets, sum_value=total)
        yield family

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._text, labels=self.label_names)


class DeferredCounter(Collector):
    """A counter without a lock, for one counting thread."""

    def __init__(self, name: str, text: str, label_names: Sequence[str]) -> None:
        self._name, self._text, self.label_names = name, text, tuple(label_names)
        self._children: dict[tuple[str, ...], CounterChild] = {}

    def labels(self, *values: str) -> CounterChild:
        """The series with these label values, made at first need."""
        return self._children.setdefault(values, CounterChild())

    def describe(self) -> Iterable[Metric]:
        """The family without samples."""
        yield self._family()

    def collect(self) -> Iterable[Metric]:
        """The family as it stands."""
        family = self._family()
        for values, child in list(self._children.items()):
            family.add_metric(values, child.value)
        yield family

    def _family(self) -> CounterMetricFamily:
        return CounterMetricFamily(self._name, self._text, labels=self.label_names)
