"""Every metric of the server, in one place; docs/operations.md lists them for operators.

A `Metrics` belongs to one server, with its own registry, so that two servers in one process (as in
tests) do not add up. Children are resolved once per model version and kept by whoever counts, so the
hot path pays for an increment and not for a look-up of labels; what is counted per frame or message is
`deferred`.

Buckets of latencies start at 10 µs and follow gRFC A66, because the usual ones start at 5 ms.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from tidegate.telemetry.deferred import DeferredCounter, DeferredHistogram

LATENCY_BUCKETS_S = (
    0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008,
    0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3,
    0.4, 0.5, 0.65, 0.8, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0,
)  # fmt: skip
"""gRFC A66's latency buckets, in seconds."""

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

MODEL = ("model", "version")
RPC = ("grpc_type", "grpc_service", "grpc_method")


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._frames()
        self._state()
        self._store()
        self._sequences()
        self._models()
        self._rpc()

    def _frames(self) -> None:
        self.frame_queue = self._hot_histogram(
            "tidegate_frame_queue_seconds", "Arrival of a frame to the start of its first run.", MODEL
        )
        self.frame_run = self._hot_histogram(
            "tidegate_frame_run_seconds", "Time of a frame in model runs.", MODEL
        )
        self.frame_total = self._hot_histogram(
            "tidegate_frame_total_seconds", "Arrival of a frame to its last answer.", MODEL
        )
        self.frames = self._hot_counter("tidegate_frames", "Frames answered in full.", MODEL)
        self.rows = self._hot_counter("tidegate_rows", "Rows answered without an error.", MODEL)
        self.steps = self._hot_counter("tidegate_steps", "Session-steps applied.", MODEL)
        self.batch_rows = self._hot_histogram(
            "tidegate_batch_rows", "Rows in one model run.", MODEL, BATCH_BUCKETS
        )
        self.errors = self._counter(
            "tidegate_errors",
            "Errors that clients were told, by canonical code and reason.",
            ("code", "reason"),
        )

    def _state(self) -> None:
        self.sessions = self._gauge("tidegate_sessions", "Sessions by condition.", (*MODEL, "condition"))
        self.streams = self._gauge("tidegate_streams", "Open streams.", ())
        self.arena_bytes = self._gauge("tidegate_arena_bytes", "Memory allocated for states.", MODEL)
        self.arena_slots_free = self._gauge(
            "tidegate_arena_slots_free", "Sessions that could still be opened.", MODEL
        )
        self.pending_bytes = self._gauge(
            "tidegate_pending_bytes", "Inputs and unsent answers held for all streams.", ()
        )

    def _store(self) -> None:
        self.store_ok = self._gauge("tidegate_store_ok", "1 while the store takes what it is given.", ())
        self.store_failures = self._counter(
            "tidegate_store_failures", "Changes that the store did not take.", ()
        )
        self.store_bytes = self._gauge("tidegate_store_bytes", "Size of the store.", ())
        self.stored_sessions = self._gauge(
            "tidegate_stored_sessions", "Sessions that the store knows, those in memory included.", ()
        )
        self.tombstones = self._gauge("tidegate_tombstones", "Ids of lost sessions that are remembered.", ())
        self.checkpoints = self._counter(
            "tidegate_checkpoints", "States of sessions that were stored.", MODEL
        )
        self.checkpoint_age = self._gauge(
            "tidegate_checkpoint_age_seconds",
            "Time that the last look at all sessions took: how old a state in the store may be.",
            (),
        )
        self.passivations = self._counter(
            "tidegate_passivations", "Sessions that left memory for the store.", ("reason",)
        )
        self.returns = self._counter("tidegate_returns", "Sessions that came back from the store.", MODEL)
        self.losses = self._counter("tidegate_losses", "Sessions given up by the server.", ("reason",))

    def _sequences(self) -> None:
        model = ("model",)
        self.sequence_starts = self._counter(
            "tidegate_sequence_starts", "Sequences of the Open Inference door that were begun.", model
        )
        self.sequence_restarts = self._counter(
            "tidegate_sequence_restarts",
            "Sequences that were begun anew under an id whose last one had not ended.",
            model,
        )
        self.sequence_ends = self._counter(
            "tidegate_sequence_ends", "Sequences that a request has ended.", model
        )
        self.sequence_repeats = self._counter(
            "tidegate_sequence_repeats",
            "Requests of sequences that came again and were answered without being applied again.",
            model,
        )

    def _models(self) -> None:
        self.model_info = self._gauge(
            "tidegate_model_info",
            "1 for each loaded version.",
            (*MODEL, "sha256", "device", "batch_exactness"),
        )
        self.model_batch_exact = self._gauge(
            "tidegate_model_batch_exact",
            "1 if the probe at load found the version bit-identical in batches and chunks.",
            MODEL,
        )
        self.model_load_seconds = self._gauge(
            "tidegate_model_load_seconds", "Reading, checking and probing a version.", MODEL
        )
        self.model_warmup_seconds = self._gauge(
            "tidegate_model_warmup_seconds", "Warm-up of a version.", MODEL
        )
        self.model_load_failures = self._counter(
            "tidegate_model_load_failures", "Versions that were refused at load.", MODEL
        )
        self.integrity_checks = self._counter(
            "tidegate_integrity_checks",
            "Times that the server, being idle, held its own books against one another.",
            ("outcome",),
        )
        self.server_ready = self._gauge("tidegate_server_ready", "1 while the server takes new work.", ())
        self.build_info = Info(
            "tidegate_build", "Versions of tidegate and of what it runs on.", registry=self.registry
        )

    def _rpc(self) -> None:
        self.rpc_started = self._counter("grpc_server_started", "RPCs started.", RPC)
        self.rpc_handled = self._counter(
            "grpc_server_handled", "RPCs completed, by code.", (*RPC, "grpc_code")
        )
        self.rpc_received = self._hot_counter("grpc_server_msg_received", "Messages received.", RPC)
        self.rpc_sent = self._hot_counter("grpc_server_msg_sent", "Messages sent.", RPC)
        self.rpc_seconds = Histogram(
            "grpc_server_handling_seconds",
            "Time of an RPC; for a stream, its life.",
            RPC,
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _hot_counter(self, name: str, text: str, labels: tuple[str, ...]) -> DeferredCounter:
        counter = DeferredCounter(name, text, labels)
        self.registry.register(counter)
        return counter

    def _hot_histogram(
        self,
        name: str,
        text: str,
        labels: tuple[str, ...],
        buckets: tuple[float, ...] = LATENCY_BUCKETS_S,
    ) -> DeferredHistogram:
        histogram = DeferredHistogram(name, text, labels, buckets)
        self.registry.register(histogram)
        return histogram
