"""The operator's port: `/metrics`, `/healthz` and `/readyz` over HTTP.

`/healthz` says that the process works, `/readyz` that it takes new work; a drained server is healthy
and not ready. It shares the event loop with gRPC, so metrics are rendered in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from tidegate.rpc.listening import unusable
from tidegate.telemetry.metrics import Metrics

CLOSE_TIMEOUT_S = 1.0
"""Longest a close waits for answers that are being written; a slow reader must not hold up a drain."""

Readiness = Callable[[], str | None]
"""Why the server does not take new work, in one line; None while it does."""


class HttpServer:
    """A running HTTP server.

    Attributes:
        port: The port that it listens on.
    """

    def __init__(self, runner: web.AppRunner, port: int) -> None:
        self._runner = runner
        self.port = port

    async def close(self) -> None:
        """Stop listening and close the connections."""
        await self._runner.cleanup()


async def start_http(host: str, port: int, *, metrics: Metrics, readiness: Readiness) -> HttpServer:
    """Listen.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        metrics: What `/metrics` shows.
        readiness: Asked at each `/readyz`.

    Raises:
        ConfigError: The address cannot be listened on.
    """
    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", _Metrics(metrics.registry).get),
            web.get("/healthz", _healthz),
            web.get("/readyz", _Readyz(readiness).get),
        ]
    )
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=CLOSE_TIMEOUT_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise unusable("http", host, port, error) from error
    return HttpServer(runner, runner.addresses[0][1])


class _Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    async def get(self, request: web.Request) -> web.Response:
        """All metrics, in the text format that the caller prefers."""
        try:
            encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        except TypeError:  # what prometheus_client raises for a version that is no number
            encode, content_type = choose_encoder("")
        body = await asyncio.get_running_loop().run_in_executor(None, encode, self._registry)
        return web.Response(body=body, headers={"Content-Type": content_type})


class _Readyz:
    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    async def get(self, _: web.Request) -> web.Response:
        """200 while the server takes new work, otherwise 503 with the reason."""
        obstacle = self._readiness()
        if obstacle is None:
            return web.json_response({"status": "ready"})
        return web.json_response({"status": obstacle}, status=503)


async def _healthz(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})
