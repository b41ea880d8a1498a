"""Rules that hold for every metric."""

import pytest
from prometheus_client.metrics_core import Metric

from tidegate.telemetry.metrics import LATENCY_BUCKETS_S, Metrics

COUNTS = {
    "tidegate_batch_rows",
    "tidegate_sessions",
    "tidegate_streams",
    "tidegate_arena_slots_free",
    "tidegate_stored_sessions",
    "tidegate_tombstones",
}
"""Gauges and histograms of things that are counted, so that the name is the unit."""

FLAGS = {"tidegate_model_info", "tidegate_model_batch_exact", "tidegate_server_ready", "tidegate_store_ok"}
"""Gauges that are 0 or 1."""


def ours() -> list[Metric]:
    """The family of each metric."""
    return [family for m in vars(Metrics()).values() if hasattr(m, "describe") for family in m.describe()]


def test_every_metric_has_a_help_text_that_is_a_sentence() -> None:
    wrong = [m.name for m in ours() if not m.documentation.endswith(".") or len(m.documentation) < 10]

    assert len(ours()) > 20
    assert wrong == []


def test_every_gauge_and_histogram_names_its_unit_or_counts_something() -> None:
    measured = [m.name for m in ours() if m.type in ("gauge", "histogram")]

    without = [n for n in measured if not n.endswith(("_seconds", "_bytes")) and n not in COUNTS | FLAGS]
    assert without == []


def test_every_counter_is_a_plural_or_of_the_grpc_family() -> None:
    counters = [m.name for m in ours() if m.type == "counter"]

    assert [n for n in counters if not n.endswith("s") and not n.startswith("grpc_server_")] == []


def test_every_metric_is_named_for_the_server_or_for_grpc() -> None:
    assert [m.name for m in ours() if not m.name.startswith(("tidegate_", "grpc_server_"))] == []


def test_every_metric_of_ours_is_in_the_registry() -> None:
    registered = {family.name for family in Metrics().registry.collect()}

    assert {m.name for m in ours()} <= registered


def test_two_servers_in_one_process_do_not_add_up() -> None:
    first, second = Metrics(), Metrics()
    first.streams.set(3)

    assert first.registry.get_sample_value("tidegate_streams") == 3
    assert second.registry.get_sample_value("tidegate_streams") == 0


def test_latencies_are_resolved_from_ten_microseconds_on() -> None:
    metrics = Metrics()
    metrics.frame_total.labels("co2", "1").observe(0.00002)

    def below(bound: str) -> float | None:
        labels = {"model": "co2", "version": "1", "le": bound}
        return metrics.registry.get_sample_value("tidegate_frame_total_seconds_bucket", labels)

    assert (below("1e-05"), below("5e-05")) == (0, 1)
    assert list(LATENCY_BUCKETS_S) == sorted(set(LATENCY_BUCKETS_S))


@pytest.mark.parametrize("family", ["process_cpu_seconds", "python_info"])
def test_the_process_itself_is_measured(family: str) -> None:
    assert family in {f.name for f in Metrics().registry.collect()}
