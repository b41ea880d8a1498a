"""The HTTP port, asked by a real client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tidegate.errors import ConfigError
from tidegate.rpc.http import HttpServer, Readiness, start_http
from tidegate.telemetry.metrics import Metrics


@asynccontextmanager
async def serving(readiness: Readiness = lambda: None, metrics: Metrics | None = None) -> AsyncIterator[str]:
    server = await start_http("127.0.0.1", 0, metrics=metrics or Metrics(), readiness=readiness)
    yield f"http://127.0.0.1:{server.port}"
    await server.close()


async def get(url: str, **headers: str) -> tuple[int, str, str]:
    """Status, content type and body."""
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        return response.status, response.headers["Content-Type"], await response.text()


async def test_healthz_is_ok_while_the_process_works() -> None:
    async with serving(readiness=lambda: "draining") as url:
        status, content_type, body = await get(f"{url}/healthz")

        assert (status, body) == (200, '{"status": "ok"}')
        assert content_type.startswith("application/json")


async def test_readyz_is_ok_while_nothing_stands_in_the_way() -> None:
    async with serving() as url:
        status, _, body = await get(f"{url}/readyz")

        assert (status, body) == (200, '{"status": "ready"}')


async def test_readyz_says_what_stands_in_the_way_at_the_time() -> None:
    obstacles = ["loading co2/1"]
    async with serving(readiness=lambda: obstacles[-1]) as url:
        before = await get(f"{url}/readyz")
        obstacles.append("draining")
        after = await get(f"{url}/readyz")

        assert (before[0], before[2]) == (503, '{"status": "loading co2/1"}')
        assert (after[0], after[2]) == (503, '{"status": "draining"}')


async def test_metrics_are_in_prometheus_text_by_default() -> None:
    metrics = Metrics()
    metrics.errors.labels("NOT_FOUND", "MODEL_NOT_FOUND").inc(3)
    async with serving(metrics=metrics) as url:
        status, content_type, body = await get(f"{url}/metrics")

        families = {family.name: family for family in text_string_to_metric_families(body)}
        assert status == 200
        assert content_type.startswith("text/plain; version=0.0.4")
        assert [s.value for s in families["tidegate_errors"].samples if s.name.endswith("_total")] == [3]


async def test_metrics_are_in_openmetrics_where_that_is_asked_for() -> None:
    async with serving() as url:
        _, content_type, body = await get(
            f"{url}/metrics", Accept="application/openmetrics-text; version=1.0.0"
        )

        assert content_type.startswith("application/openmetrics-text; version=1.0.0")
        assert body.endswith("# EOF\n")


@pytest.mark.parametrize("kind", ["text/plain", "application/openmetrics-text"])
async def test_a_version_that_is_no_number_gets_the_plain_text_format(kind: str) -> None:
    async with serving() as url:
        status, content_type, _ = await get(f"{url}/metrics", Accept=f"{kind}; version=abc")

        assert status == 200
        assert content_type.startswith("text/plain; version=0.0.4")


async def test_an_unknown_path_is_not_found() -> None:
    async with serving() as url:
        assert (await get(f"{url}/"))[0] == 404


async def test_a_port_in_use_is_named_with_its_flag() -> None:
    async with serving() as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(ConfigError) as caught:
            await start(port=port)

        assert str(caught.value) == f"--http-port: 127.0.0.1:{port} is in use"


async def test_an_address_of_another_machine_is_refused_with_its_flag() -> None:
    with pytest.raises(ConfigError, match=r"^--http-host: cannot listen on 192\.0\.2\.1:8002: ") as caught:
        await start(host="192.0.2.1", port=8002)

    assert "\n" not in str(caught.value)


async def test_a_closed_server_gives_its_port_back() -> None:
    first = await start()
    await first.close()

    second = await start(port=first.port)

    assert second.port == first.port
    await second.close()


async def start(host: str = "127.0.0.1", port: int = 0) -> HttpServer:
    return await start_http(host, port, metrics=Metrics(), readiness=lambda: None)
