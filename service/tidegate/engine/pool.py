"""The model versions that are loaded, each with an engine of its own, and how they come and go.

Loading reads, checks and probes a package in a worker thread, so that loaded models go on stepping.
Two requests for one version share one load.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from tidegate.engine.engine import Engine
from tidegate.engine.meter import EngineMeter
from tidegate.errors import ModelMismatch, ModelNotFound, TidegateError
from tidegate.model.manifest import Manifest
from tidegate.model.package import ModelPackage
from tidegate.repository.repository import LATEST, Entry, Repository
from tidegate.runner.runner import BatchExactness, Runner, RunnerOptions
from tidegate.telemetry.incidents import incident
from tidegate.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """How versions are loaded and scheduled."""

    runner: RunnerOptions
    max_queue_delay_us: int


class LoadedModel:
    """A version that can be stepped.

    Attributes:
        manifest: What it takes, gives and carries.
        runner: Owns its graph and its arena.
        engine: Schedules its frames.
        loaded_at_s: Unix time of the load.
    """

    def __init__(self, runner: Runner, engine: Engine) -> None:
        self.manifest: Manifest = runner.manifest
        self.runner = runner
        self.engine = engine
        self.loaded_at_s = time.time()

    @property
    def entry(self) -> Entry:
        """Name and version."""
        return Entry(self.manifest.name, self.manifest.version)


class LoadState(StrEnum):
    """Where a version of the repository stands."""

    AVAILABLE = "available"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True)
class ModelStatus:
    """A version of the repository, loaded or not.

    Attributes:
        failure: FAILED: what is wrong, in one line.
        model: READY: the loaded version.
    """

    entry: Entry
    state: LoadState
    failure: str = ""
    model: LoadedModel | None = field(default=None, compare=False)


class ModelPool:
    """The loaded versions of one repository. Only the event loop's thread calls this."""

    def __init__(self, repository: Repository, options: PoolOptions, metrics: Metrics) -> None:
        self._repository = repository
        self._options = options
        self._metrics = metrics
        self._ready: dict[Entry, LoadedModel] = {}
        self._loading: dict[Entry, asyncio.Task[LoadedModel]] = {}
        self._failures: dict[Entry, str] = {}
        self.on_change: Callable[[Entry, bool], None] = lambda _entry, _ready: None
        """Told of every version that becomes ready or ceases to be."""

    async def load_newest_of_each(self) -> None:
        """Load the newest version of every model; one that is refused stops no other."""
        for name in dict.fromkeys(e.name for e in self._repository.entries()):
            entry = self._repository.latest(name)
            try:
                await self.load(entry.name, entry.version)
            except TidegateError as error:
                if error.reason == "DEVICE_UNAVAILABLE":
                    raise
                # Said in the log by load(); the others are served.

    async def resolve(self, name: str, version: str = LATEST, sha256: str = "") -> LoadedModel:
        """The version that a client means, loading it if need be.

        Args:
            name: Name of the model.
            version: Its version; "latest" or "" is the newest that is ready.
            sha256: Hash that the client expects; "" expects none.

        Raises:
            ModelNotFound: The repository has no such version.
            ModelMismatch: The version's bytes have another hash.
            PackageError: The version is refused at load.
        """
        model = self._newest_ready(name) if version in ("", LATEST) else self._ready.get(Entry(name, version))
        if model is None:
            model = await self.load(name, version)
        if sha256 and sha256 != model.manifest.sha256:
            raise ModelMismatch(
                f"sha256: {model.manifest.label} is {model.manifest.sha256} here, the client has {sha256}"
            )
        return model

    async def load(self, name: str, version: str = LATEST) -> LoadedModel:
        """Load a version; a loaded one is returned as it is.

        Raises:
            ModelNotFound: The repository has no such version.
            PackageError: The package is refused.
            InternalError: The load failed in a way that nobody expected.
        """
        entry = self._repository.latest(name) if version in ("", LATEST) else Entry(name, version)
        # Again if it was unloaded between the end of the load and our turn.
        while entry not in self._ready:
            if entry not in self._loading:
                task = asyncio.create_task(self._load(entry))
                self._loading[entry] = task
                task.add_done_callback(lambda _: self._loading.pop(entry, None))
            await asyncio.shield(self._loading[entry])
        return self._ready[entry]

    def read_package(self, model: LoadedModel) -> ModelPackage:
        """Read the package of a loaded version once more, from whichever thread.

        Raises:
            ModelNotFound: The repository no longer has it.
            PackageError: Its bytes have changed since it was loaded.
        """
        return self._repository.read(*model.entry)

    def unload(self, model: LoadedModel) -> None:
        """Forget a version; no session may need it any more."""
        del self._ready[model.entry]
        model.engine.close()
        for metric in (
            self._metrics.model_batch_exact,
            self._metrics.model_load_seconds,
            self._metrics.model_warmup_seconds,
        ):
            metric.remove(*model.entry)
        self._metrics.model_info.remove(*self._info_labels(model))
        self.on_change(model.entry, False)
        log.info("model unloaded", extra={"model": model.manifest.label})

    def models(self) -> list[LoadedModel]:
        """The loaded versions."""
        return list(self._ready.values())

    def find(self, name: str, version: str = LATEST) -> ModelStatus:
        """The status of one version.

        Raises:
            ModelNotFound: The repository has no such version.
        """
        if version in ("", LATEST):
            model = self._newest_ready(name)
            version = model.manifest.version if model else self._repository.latest(name).version
        for status in self.statuses():
            if status.entry == Entry(name, version):
                return status
        raise ModelNotFound(f"no version {version!r} of model {name!r}")

    def statuses(self) -> list[ModelStatus]:
        """Every version of the repository, and those that are loaded from what it no longer has."""
        entries = dict.fromkeys([*self._repository.entries(), *self._ready])
        return [self._status(entry) for entry in entries]

    def close(self) -> None:
        """Stop all engines."""
        for model in self._ready.values():
            model.engine.close()

    def _status(self, entry: Entry) -> ModelStatus:
        if entry in self._ready:
            return ModelStatus(entry, LoadState.READY, model=self._ready[entry])
        if entry in self._loading:
            return ModelStatus(entry, LoadState.LOADING)
        if entry in self._failures:
            return ModelStatus(entry, LoadState.FAILED, self._failures[entry])
        return ModelStatus(entry, LoadState.AVAILABLE)

    def _newest_ready(self, name: str) -> LoadedModel | None:
        versions = [m for e, m in self._ready.items() if e.name == name]
        return max(versions, key=lambda m: int(m.manifest.version), default=None)

    async def _load(self, entry: Entry) -> LoadedModel:
        try:
            runner = await asyncio.to_thread(self._make_runner, entry)
        except ModelNotFound:
            raise  # remembering it would let callers fill the memory with names
        except TidegateError as error:
            self._refused(entry, error)
            raise
        except Exception as error:
            public = incident(error)
            self._refused(entry, public)
            raise public from None
        self._failures.pop(entry, None)
        model = LoadedModel(runner, self._make_engine(runner))
        self._ready[entry] = model
        self._report(model)
        self.on_change(entry, True)
        return model

    def _refused(self, entry: Entry, error: TidegateError) -> None:
        self._failures[entry] = str(error)
        self._metrics.model_load_failures.labels(*entry).inc()
        log.error("model refused", extra={"model": "/".join(entry), "why": str(error)})

    def _make_runner(self, entry: Entry) -> Runner:
        return Runner(self._repository.read(*entry), self._options.runner)

    def _make_engine(self, runner: Runner) -> Engine:
        return Engine(
            runner,
            max_batch_size=self._options.runner.max_batch_size,
            max_slice_steps=self._options.runner.max_slice_steps,
            max_queue_delay_us=self._options.max_queue_delay_us,
            meter=EngineMeter(self._metrics, runner.manifest.name, runner.manifest.version),
        )

    def _report(self, model: LoadedModel) -> None:
        runner, entry = model.runner, model.entry
        self._metrics.model_info.labels(*self._info_labels(model)).set(1)
        self._metrics.model_batch_exact.labels(*entry).set(runner.exactness.exact)
        self._metrics.model_load_seconds.labels(*entry).set(runner.load_s)
        self._metrics.model_warmup_seconds.labels(*entry).set(runner.warmup_s)
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

    def _info_labels(self, model: LoadedModel) -> tuple[str, ...]:
        runner = model.runner
        return (*model.entry, runner.manifest.sha256, runner.device, runner.batch_exactness.value)
