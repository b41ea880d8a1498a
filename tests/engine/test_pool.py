"""How model versions come and go."""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
from pathlib import Path

import pytest

from support.odd_models import counter_package
from support.onnx_models import lstm_package
from support.pools import OPTIONS, spoil
from tidegate.engine.pool import LoadState, ModelPool, PoolOptions
from tidegate.errors import InternalError, ModelMismatch, ModelNotFound, PackageError
from tidegate.repository.repository import Entry
from tidegate.runner.runner import RunnerOptions
from tidegate.telemetry.metrics import Metrics


async def test_two_requests_for_one_version_share_one_load(tmp_path: Path, pool: ModelPool) -> None:
    counter_package(tmp_path)

    first, second = await asyncio.gather(pool.load("counter"), pool.load("counter", "1"))

    assert first is second
    assert pool.models() == [first]


async def test_a_version_shows_as_loading_while_it_is(tmp_path: Path, pool: ModelPool) -> None:
    counter_package(tmp_path)
    load = asyncio.create_task(pool.load("counter"))
    await asyncio.sleep(0)

    during = pool.find("counter").state
    await load

    assert (during, pool.find("counter").state) == (LoadState.LOADING, LoadState.READY)


async def test_whoever_gives_up_does_not_stop_the_load_for_others(tmp_path: Path, pool: ModelPool) -> None:
    counter_package(tmp_path)
    impatient = asyncio.create_task(pool.load("counter"))
    patient = asyncio.create_task(pool.load("counter"))
    await asyncio.sleep(0)

    impatient.cancel()

    assert (await patient).manifest.label == "counter/1"


async def test_a_refused_package_is_remembered_with_its_reason(
    tmp_path: Path, pool: ModelPool, metrics: Metrics
) -> None:
    spoil(counter_package(tmp_path))

    with pytest.raises(PackageError, match="the bytes have changed"):
        await pool.load("counter")

    status = pool.find("counter")
    assert status.state is LoadState.FAILED
    assert "the bytes have changed" in status.failure
    labels = {"model": "counter", "version": "1"}
    assert metrics.registry.get_sample_value("tidegate_model_load_failures_total", labels) == 1


async def test_a_mended_package_loads(tmp_path: Path, pool: ModelPool) -> None:
    package = counter_package(tmp_path)
    good = (package / "model.onnx").read_bytes()
    spoil(package)
    with pytest.raises(PackageError):
        await pool.load("counter")

    (package / "model.onnx").write_bytes(good)
    await pool.load("counter")

    assert pool.find("counter").state is LoadState.READY


async def test_one_refused_package_stops_no_other(tmp_path: Path, pool: ModelPool) -> None:
    spoil(counter_package(tmp_path, name="a"))
    counter_package(tmp_path, name="b")

    await pool.load_newest_of_each()

    assert [m.manifest.name for m in pool.models()] == ["b"]


async def test_a_load_that_fails_in_an_unexpected_way_stops_no_other_and_hides_its_text(
    tmp_path: Path, pool: ModelPool
) -> None:
    counter_package(tmp_path, name="a")
    counter_package(tmp_path, name="b")
    # No server can have this much memory for one model's states.
    huge = PoolOptions(
        runner=RunnerOptions(max_batch_size=4, max_slice_steps=4, max_sessions=2**45), max_queue_delay_us=0
    )
    pool._loader._options = huge.runner
    with pytest.raises(InternalError, match="quote incident") as caught:
        await pool.load("a")

    pool._loader._options = OPTIONS.runner
    await pool.load_newest_of_each()

    assert pool.find("b").state is LoadState.READY
    assert "allocate" not in str(caught.value)


async def test_names_that_nothing_has_are_not_remembered(tmp_path: Path, pool: ModelPool) -> None:
    counter_package(tmp_path)

    for version in range(2, 20):
        with pytest.raises(ModelNotFound):
            await pool.resolve("counter", str(version))

    assert pool._loader.failures == {}
    assert pool._loading == {}


async def test_latest_is_the_newest_that_is_ready(tmp_path: Path, pool: ModelPool) -> None:
    for version in ("2", "9", "10"):
        lstm_package(tmp_path, version=version)
    await pool.load("lstm", "2")

    assert (await pool.resolve("lstm")).manifest.version == "2"
    await pool.load("lstm", "9")
    assert (await pool.resolve("lstm", "latest")).manifest.version == "9"
    await pool.load("lstm")
    assert (await pool.resolve("lstm")).manifest.version == "10"


async def test_resolving_loads_what_is_not_ready(tmp_path: Path, pool: ModelPool) -> None:
    lstm_package(tmp_path)

    model = await pool.resolve("lstm", "1")

    assert model.entry == Entry("lstm", "1")


async def test_other_bytes_than_the_client_expects_are_refused(tmp_path: Path, pool: ModelPool) -> None:
    lstm_package(tmp_path)
    model = await pool.load("lstm")

    assert await pool.resolve("lstm", "1", model.manifest.sha256) is model
    with pytest.raises(ModelMismatch, match="sha256: lstm/1 is "):
        await pool.resolve("lstm", "1", "0" * 64)


async def test_an_unloaded_version_leaves_no_thread_and_no_gauge_and_loads_again(
    tmp_path: Path, pool: ModelPool, metrics: Metrics
) -> None:
    counter_package(tmp_path)
    changes: list[tuple[str, bool]] = []
    pool.on_change = lambda entry, ready: changes.append((entry.version, ready))
    model = await pool.load("counter")

    pool.unload(model)

    assert pool.find("counter").state is LoadState.AVAILABLE
    labels = {"model": "counter", "version": "1"}
    assert metrics.registry.get_sample_value("tidegate_model_batch_exact", labels) is None
    assert not [t for t in threading.enumerate() if t.name.startswith("engine-counter/1")]
    assert await pool.load("counter") is not model
    assert changes == [("1", True), ("1", False), ("1", True)]


async def test_a_version_unloaded_as_soon_as_it_is_ready_is_loaded_again_for_who_waits(
    tmp_path: Path, pool: ModelPool
) -> None:
    counter_package(tmp_path)
    unloaded = []

    def unload_the_first(entry: Entry, ready: bool) -> None:
        if ready and not unloaded:
            unloaded.append(pool.models()[0])
            pool.unload(unloaded[0])

    pool.on_change = unload_the_first

    model = await pool.resolve("counter")

    assert model is not unloaded[0]
    assert pool.models() == [model]


async def test_a_version_gone_from_the_repository_is_still_listed_while_it_is_loaded(
    tmp_path: Path, pool: ModelPool
) -> None:
    package = counter_package(tmp_path)
    await pool.load("counter")
    shutil.rmtree(package)

    assert [s.state for s in pool.statuses()] == [LoadState.READY]


async def test_the_log_says_that_a_graph_for_one_row_is_not_batched(
    tmp_path: Path, pool: ModelPool, caplog: pytest.LogCaptureFixture
) -> None:
    counter_package(tmp_path, batch=False)

    with caplog.at_level(logging.INFO):
        await pool.load("counter")

    record = next(r for r in caplog.records if r.getMessage() == "model loaded")
    assert record.__dict__["batching"] == "off: the graph takes one row at a time"
