"""What the log and the metrics say of versions that are loaded, unloaded or refused."""

from __future__ import annotations

import logging

from tidegate.errors import TidegateError
from tidegate.model.manifest import Manifest
from tidegate.repository.repository import Entry
from tidegate.runner.runner import BatchExactness, Runner
from tidegate.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class ModelReport:
    """Tells the operator what the pool did."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def loaded(self, runner: Runner) -> None:
        """A version can be stepped."""
        labels = _labels(runner.manifest)
        self._metrics.model_info.labels(*_info_labels(runner)).set(1)
        self._metrics.model_batch_exact.labels(*labels).set(runner.exactness.exact)
        self._metrics.model_load_seconds.labels(*labels).set(runner.load_s)
        self._metrics.model_warmup_seconds.labels(*labels).set(runner.warmup_s)
        facts = {
            "model": runner.manifest.label,
            "device": runner.device,
            "batch_exactness": runner.batch_exactness.value,
            "load_s": round(runner.load_s, 3),
            "warmup_s": round(runner.warmup_s, 3),
            "state_bytes": runner.arena.slot_bytes,
        }
        if not runner.manifest.has_batch_axis:
            facts["batching"] = "off: the graph takes one row at a time"
        if runner.exactness.detail:
            facts["probe"] = runner.exactness.detail
        exact = runner.batch_exactness is BatchExactness.EXACT
        log.log(logging.INFO if exact else logging.WARNING, "model loaded", extra=facts)

    def unloaded(self, runner: Runner) -> None:
        """A version can be stepped no longer."""
        for metric in (
            self._metrics.model_batch_exact,
            self._metrics.model_load_seconds,
            self._metrics.model_warmup_seconds,
        ):
            metric.remove(*_labels(runner.manifest))
        self._metrics.model_info.remove(*_info_labels(runner))
        log.info("model unloaded", extra={"model": runner.manifest.label})

    def refused(self, entry: Entry, error: TidegateError) -> None:
        """A package is not what it should be."""
        self._metrics.model_load_failures.labels(*entry).inc()
        log.error("model refused", extra={"model": "/".join(entry), "why": str(error)})


def _labels(manifest: Manifest) -> tuple[str, str]:
    return manifest.name, manifest.version


def _info_labels(runner: Runner) -> tuple[str, ...]:
    manifest = runner.manifest
    return (*_labels(manifest), manifest.sha256, runner.device, runner.batch_exactness.value)
