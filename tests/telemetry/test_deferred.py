"""Deferred metrics show what prometheus_client's own would."""

from __future__ import annotations

import threading

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from tidegate.telemetry import deferred
from tidegate.telemetry.deferred import DeferredCounter, DeferredHistogram

BUCKETS = (0.001, 0.5, 1.0, 2.0)


def shown(registry: CollectorRegistry) -> set[str]:
    """The page, without the creation times that only prometheus_client's own metrics have."""
    return {line for line in generate_latest(registry).decode().splitlines() if "_created" not in line}


def test_a_histogram_has_the_page_of_the_usual_one() -> None:
    values = [0.0, 0.001, 0.0010001, 0.5, 0.7, 1.0, 2.0, 3.0, *np.random.default_rng(1).uniform(0, 3, 500)]
    usual, ours = CollectorRegistry(), CollectorRegistry()
    theirs = Histogram("run_seconds", "Runs.", ("model",), buckets=BUCKETS, registry=usual)
    histogram = DeferredHistogram("run_seconds", "Runs.", ("model",), BUCKETS)
    ours.register(histogram)

    for value in values:
        theirs.labels("a").observe(value)
        histogram.labels("a").observe(value)
    theirs.labels("b")
    histogram.labels("b")

    differ = {line for line in shown(usual) ^ shown(ours) if "_sum" not in line}
    assert differ == set()
    assert np.isclose(histogram.labels("a").totals()[1], sum(values))


def test_a_counter_has_the_page_of_the_usual_one() -> None:
    usual, ours = CollectorRegistry(), CollectorRegistry()
    theirs = Counter("steps", "Steps.", ("model",), registry=usual)
    counter = DeferredCounter("steps", "Steps.", ("model",))
    ours.register(counter)

    for amount in (1, 5, 256):
        theirs.labels("a").inc(amount)
        counter.labels("a").inc(amount)

    assert shown(usual) == shown(ours)


def test_few_samples_wait_where_nobody_scrapes() -> None:
    series = DeferredHistogram("run_seconds", "Runs.", (), BUCKETS).labels()

    for _ in range(3 * deferred.MAX_WAITING + 1):
        series.observe(0.1)

    assert len(series._waiting) == 1
    assert series.totals()[0][-1] == 3 * deferred.MAX_WAITING + 1


def test_no_sample_is_lost_or_counted_twice_while_others_scrape() -> None:
    series = DeferredHistogram("run_seconds", "Runs.", (), BUCKETS).labels()
    stop = threading.Event()

    def scrape() -> None:
        while not stop.is_set():
            series.totals()

    scrapers = [threading.Thread(target=scrape) for _ in range(2)]
    for thread in scrapers:
        thread.start()
    for _ in range(20_000):
        series.observe(0.1)
    stop.set()
    for thread in scrapers:
        thread.join()

    assert series.totals()[0][-1] == 20_000
