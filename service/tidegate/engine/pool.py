"""The model versions that are loaded, each with an engine of its own, and how they come and go.

Loading reads, checks and probes a package in a worker thread, so that loaded models go on stepping.
Two requests for one version share one load.

"latest" is the newest version that is loaded, without those that were withdrawn: it changes in the
moment when a newer one is ready, and never by way of one that is not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum

from tidegate.engine.engine import Engine
from tidegate.engine.loader import Loader
from tidegate.engine.meter import EngineMeter
from tidegate.engine.model_report import ModelReport
from tidegate.errors import ModelMismatch, ModelNotFound, TidegateError
from tidegate.model.manifest import Manifest
from tidegate.model.package import ModelPackage
from tidegate.repository.repository import LATEST, Entry, Repository
from tidegate.runner.runner import Runner, RunnerOptions
from tidegate.telemetry.metrics import Metrics


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
        needed_at_s: Monotonic time when something last needed it.
        is_kept: An operator loaded it by name: it stays until an operator unloads it.
    """

    def __init__(self, runner: Runner, engine: Engine) -> None:
        self.manifest: Manifest = runner.manifest
        self.runner = runner
        self.engine = engine
        self.loaded_at_s = time.time()
        self.needed_at_s = time.monotonic()
        self.is_kept = False
        self._num_uses = 0

    @property
    def entry(self) -> Entry:
        """Name and version."""
        return Entry(self.manifest.name, self.manifest.version)

    @property
    def is_in_use(self) -> bool:
        """Whether a session is being made on it at this moment."""
        return self._num_uses > 0

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep it loaded while a session is made on it; nothing may be awaited between `resolve` and this."""
        self._num_uses += 1
        try:
            yield
        finally:
            self._num_uses -= 1


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
        self._report = ModelReport(metrics)
        self._loader = Loader(repository, options.runner, self._report)
        self._ready: dict[Entry, LoadedModel] = {}
        self._loading: dict[Entry, asyncio.Task[LoadedModel]] = {}
        self._withdrawn: set[Entry] = set()
        self.on_change: Callable[[Entry, bool], None] = lambda _entry, _ready: None
        """Told of every version that comes or goes, and whether its model has one that is ready."""

    async def load_newest_of_each(self) -> None:
        """Load the newest version of every model that is not refused; from now on loads give way to steps.

        Raises:
            DeviceUnavailable: The device does not start.
        """
        for entry in reversed(self._repository.entries()):
            if self._newest_ready(entry.name) is not None:
                continue
            try:
                await self.load(*entry)
            except TidegateError as error:
                if error.reason == "DEVICE_UNAVAILABLE":
                    raise
                # Said in the log by load(); the version before it is served.
        self._loader.give_way()

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
        model.needed_at_s = time.monotonic()
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

    async def take_notice(self, entry: Entry) -> None:
        """A version has come to the repository or changed there.

        It is loaded if it is newer than what is served. If it has been loaded before, it must be what it
        was: what runs goes on, and the log tells of the difference.
        """
        if self._repository.is_held(entry):
            await self._loader.check(entry)
        elif self._is_news(entry):
            with suppress(TidegateError):  # said in the log by load()
                await self.load(*entry)

    def unload(self, model: LoadedModel) -> None:
        """Forget a version; no session may need it any more."""
        del self._ready[model.entry]
        model.engine.close()
        self._report.unloaded(model.runner)
        self.on_change(model.entry, self._newest_ready(model.entry.name) is not None)

    def keep(self, model: LoadedModel) -> None:
        """An operator wants the version loaded: it stays, and serves new sessions if it is the newest."""
        model.is_kept = True
        self._withdrawn.discard(model.entry)

    def withdraw(self, entry: Entry) -> None:
        """An operator has unloaded the version: if a session of its own brings it back, new ones get another."""
        self._withdrawn.add(entry)

    def is_newest(self, model: LoadedModel) -> bool:
        """Whether new sessions are made on this version."""
        return self._newest_ready(model.entry.name) is model

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
        """Stop all engines; loads that have not begun are given up."""
        self._loader.close()
        for model in self._ready.values():
            model.engine.close()

    def _status(self, entry: Entry) -> ModelStatus:
        if entry in self._ready:
            return ModelStatus(entry, LoadState.READY, model=self._ready[entry])
        if entry in self._loading:
            return ModelStatus(entry, LoadState.LOADING)
        if entry in self._loader.failures:
            return ModelStatus(entry, LoadState.FAILED, self._loader.failures[entry])
        return ModelStatus(entry, LoadState.AVAILABLE)

    def _newest_ready(self, name: str) -> LoadedModel | None:
        versions = [m for e, m in self._ready.items() if e.name == name]
        return max(versions, key=self._rank, default=None)

    def _rank(self, model: LoadedModel) -> tuple[bool, int]:
        return model.entry not in self._withdrawn, int(model.manifest.version)

    def _is_news(self, entry: Entry) -> bool:
        """Whether a version is newer than what its model's new sessions get."""
        newest = self._newest_ready(entry.name)
        return newest is None or int(entry.version) > int(newest.manifest.version)

    async def _load(self, entry: Entry) -> LoadedModel:
        runner = await self._loader.load(entry)
        model = LoadedModel(runner, self._make_engine(runner))
        self._ready[entry] = model
        self._report.loaded(runner)
        self.on_change(entry, True)
        return model

    def _make_engine(self, runner: Runner) -> Engine:
        return Engine(
            runner,
            max_batch_size=self._options.runner.max_batch_size,
            max_slice_steps=self._options.runner.max_slice_steps,
            max_queue_delay_us=self._options.max_queue_delay_us,
            meter=EngineMeter(self._metrics, runner.manifest.name, runner.manifest.version),
        )
