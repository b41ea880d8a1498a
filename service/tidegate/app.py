"""The composition root: puts a server together, starts it, and stops it.

Order of the start: the first ONNX Runtime session (see `runner.ort`), ports, models with their probe
and warm-up, ready. Order of the stop: not ready, streams told, frames in flight answered, states
stored, closed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import signal
import tempfile
import time
from pathlib import Path

import grpc
import onnxruntime
import uvloop

from tidegate import __version__
from tidegate.config import ServerSettings
from tidegate.engine.pool import ModelPool, PoolOptions
from tidegate.repository.repository import Repository
from tidegate.rpc.http import HttpServer, start_http
from tidegate.rpc.server import GrpcServer, start_grpc
from tidegate.runner.ort import Device, choose_device, treat_denormals_as_zero
from tidegate.runner.runner import RunnerOptions
from tidegate.session.limits import SessionLimits
from tidegate.session.manager import SessionManager
from tidegate.session.stores.opening import open_store
from tidegate.session.versions import VersionKeeper
from tidegate.telemetry.incidents import incident
from tidegate.telemetry.logs import configure_logging
from tidegate.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

MAX_SWEEP_INTERVAL_S = 30.0
"""Longest time between two looks for idle sessions."""


def serve(settings: ServerSettings) -> None:
    """Run a server until SIGTERM or SIGINT; returns when it has stopped.

    Raises:
        ConfigError: A port is in use, or the repository is not there.
        DeviceUnavailable: The device that is asked for cannot run models here.
    """
    configure_logging(settings.log_level, settings.log_format)
    treat_denormals_as_zero()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings))


async def _run(settings: ServerSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(settings)
    try:
        starting = asyncio.create_task(server.start())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            await stopping
        starting.cancel()
    finally:
        await server.stop()


class Server:
    """One server: its models, its sessions, its two ports."""

    def __init__(self, settings: ServerSettings) -> None:
        """Put the parts together; nothing listens yet.

        Raises:
            ConfigError: The repository is not there.
            DeviceUnavailable: The device that is asked for cannot run models here.
        """
        self._settings = settings
        self._metrics = Metrics()
        self._metrics.build_info.info(_versions())
        device = choose_device(settings.device)
        repository = Repository(settings.models)
        self._pool = ModelPool(repository, _pool_options(settings, device), self._metrics)
        store = open_store(
            settings.store,
            full_sync=settings.store_full_sync,
            max_stored_sessions=settings.max_stored_sessions,
            max_tombstones=settings.max_tombstones,
        )
        self._sessions = SessionManager(self._pool, store, _session_limits(settings), self._metrics)
        self._versions = VersionKeeper(
            repository,
            self._sessions,
            watches=settings.watch_models,
            unload_after_s=settings.unload_after_s,
            report=self._report,
        )
        self._http: HttpServer | None = None
        self._grpc: GrpcServer | None = None
        self._chores: list[asyncio.Task[None]] = []
        self._obstacle: str | None = "starting: models are being loaded"

    async def start(self) -> None:
        """Listen, load the models, and become ready.

        Raises:
            ConfigError: A port is in use.
            DeviceUnavailable: The device does not start.
        """
        settings = self._settings
        self._http = await start_http(
            settings.http_host, settings.http_port, metrics=self._metrics, readiness=lambda: self._obstacle
        )
        self._grpc = await start_grpc(
            settings, self._pool, self._sessions, self._metrics, is_ready=lambda: self._obstacle is None
        )
        self._pool.on_change = self._grpc.show_model
        # Clients come as soon as the port is there, while other models are still being loaded.
        self._chores = [asyncio.create_task(self._sessions.checkpointer.run())]
        await self._pool.load_newest_of_each()
        await self._sessions.keeper.probe()
        self._sessions.keeper.on_change = self._grpc.show_store
        self._chores += [asyncio.create_task(self._sweep()), asyncio.create_task(self._versions.run())]
        self._obstacle = None
        self._metrics.server_ready.set(1)
        await self._grpc.health.set_ready(store_works=self._sessions.keeper.works)
        ports = {"grpc_port": self._grpc.port, "http_port": self._http.port, "pid": os.getpid()}
        if settings.ready_file is not None:
            _write_whole(settings.ready_file, json.dumps(ports))
        log.info("ready", extra={"models": len(self._pool.models()), **ports, **_versions()})

    async def stop(self) -> None:
        """Answer what is in flight, store what has changed, and close; parts that never started are left alone."""
        was_ready, grace_s = self._obstacle is None, self._settings.drain_grace_s
        began_s = time.monotonic()
        self._obstacle = "stopping: frames in flight are being answered"
        self._metrics.server_ready.set(0)
        if was_ready:
            log.info("stopping", extra={"grace_s": grace_s, **self._sessions.save_estimate()})
        self._sessions.drain()
        for chore in self._chores:
            chore.cancel()
        if self._grpc is not None:
            await self._grpc.stop(max(0.0, grace_s - self._sessions.save_estimate()["estimate_s"]))
        if self._http is not None:
            await self._http.close()
        has_served = was_ready or len(self._sessions.registry) > 0
        left_s = began_s + grace_s - time.monotonic()
        unsaved = await self._sessions.save_all(left_s) if has_served else 0
        self._sessions.keeper.close()
        self._pool.close()
        if has_served:
            log.info("stopped", extra={"sessions_unsaved": unsaved})

    async def _sweep(self) -> None:
        """Look for idle sessions, and for errors in our own books."""
        interval_s = min(self._settings.detached_idle_timeout_s / 4, MAX_SWEEP_INTERVAL_S)
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self._sessions.tidy()
            except Exception as error:  # whatever this look met, the next one comes
                self._report(error)
            if self._sessions.is_idle():
                self._check_books()

    def _check_books(self) -> None:
        outcome = "passed"
        try:
            self._sessions.check_integrity()
        except AssertionError as error:
            outcome = "failed"
            self._report(error)
        self._metrics.integrity_checks.labels(outcome).inc()

    def _report(self, error: Exception) -> None:
        found = incident(error)
        self._metrics.errors.labels(found.code, found.reason).inc()


def _pool_options(settings: ServerSettings, device: Device) -> PoolOptions:
    return PoolOptions(
        runner=RunnerOptions(
            device=device,
            intra_op_threads=settings.intra_op_threads,
            max_batch_size=settings.max_batch_size,
            max_slice_steps=settings.max_slice_steps,
            max_sessions=settings.max_sessions,
        ),
        max_queue_delay_us=settings.max_queue_delay_us,
    )


def _session_limits(settings: ServerSettings) -> SessionLimits:
    return SessionLimits(
        max_frame_rows=settings.max_frame_rows,
        max_frame_steps=settings.max_frame_steps,
        max_message_bytes=settings.max_message_bytes,
        max_frames_in_flight=settings.max_frames_in_flight,
        max_open_sessions=settings.max_open_sessions,
        max_pending_bytes=settings.max_pending_bytes,
        max_streams=settings.max_streams,
        detached_idle_timeout_s=settings.detached_idle_timeout_s,
        expire_after_s=settings.expire_after_s,
        checkpoint_age_s=settings.checkpoint_age_s,
        checkpoint_bytes_per_s=settings.checkpoint_bytes_per_s,
        sequence_durability=settings.sequence_durability,
        retry_after_s=settings.load_retry_s,
    )


def _versions() -> dict[str, str]:
    return {
        "version": __version__,
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "grpcio": grpc.__version__,
    }


def _write_whole(path: Path, text: str) -> None:
    """A reader of the file sees all of it or none."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        file.write(text)
    Path(file.name).replace(path)
