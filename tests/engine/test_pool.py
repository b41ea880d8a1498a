"""How model versions come and go."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.odd_models import counter_package
from support.onnx_models import lstm_package
from tidegate.engine.loader import NICENESS
from tidegate.engine.pool import LoadState, ModelPool, PoolOptions
from tidegate.errors import InternalError, ModelMismatch, ModelNotFound, PackageError
from tidegate.repository.repository import Entry, Repository
from tidegate.runner.runner import RunnerOptions
from tidegate.telemetry.metrics import Metrics

OPTIONS = PoolOptions(
    runner=RunnerOptions(max_batch_size=4, max_slice_steps=4, max_sessions=8), max_queue_delay_us=0
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def pool(tmp_path: Path, metrics: Metrics) -> Iterator[ModelPool]:
    pool = ModelPool(Repository(tmp_path), OPTIONS, metrics)
    yield pool
    pool.close()


def spoil(package: Path) -> None:
    (package / "model.onnx").write_bytes(b"not what was hashed")


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


async def test_a_newest_version_that_is_refused_leaves_the_one_before_it(
    tmp_path: Path, pool: ModelPool
) -> None:
    for version in ("1", "2", "3"):
        lstm_package(tmp_path, version=version)
    spoil(tmp_path / "lstm" / "3")

    await pool.load_newest_of_each()

    assert [m.manifest.version for m in pool.models()] == ["2"]
    assert pool.find("lstm", "3").state is LoadState.FAILED


async def test_a_version_newer_than_what_is_served_is_loaded_when_it_comes(
    tmp_path: Path, pool: ModelPool
) -> None:
    lstm_package(tmp_path, version="2")
    await pool.load_newest_of_each()
    for version in ("1", "3"):
        lstm_package(tmp_path, version=version)

    for version in ("1", "3"):
        await pool.take_notice(Entry("lstm", version))

    assert sorted(m.manifest.version for m in pool.models()) == ["2", "3"]
    assert (await pool.resolve("lstm")).manifest.version == "3"


async def test_a_version_that_comes_and_is_refused_is_said_once_and_serves_nobody(
    tmp_path: Path, pool: ModelPool, caplog: pytest.LogCaptureFixture
) -> None:
    lstm_package(tmp_path)
    await pool.load_newest_of_each()
    lstm_package(tmp_path, version="2", layout=1)

    await pool.take_notice(Entry("lstm", "2"))

    assert [r.__dict__["model"] for r in caplog.records if r.levelno >= logging.ERROR] == ["lstm/2"]
    assert (await pool.resolve("lstm")).manifest.version == "1"


async def test_a_refused_version_may_be_mended_with_other_bytes(tmp_path: Path, pool: ModelPool) -> None:
    package = lstm_package(tmp_path, layout=1)
    with pytest.raises(PackageError, match="ONNX Runtime refuses the graph"):
        await pool.load("lstm")
    shutil.rmtree(package)
    lstm_package(tmp_path)

    await pool.take_notice(Entry("lstm", "1"))

    assert pool.find("lstm").state is LoadState.READY


async def test_other_bytes_under_a_loaded_version_are_said_once_and_harm_nobody(
    tmp_path: Path, pool: ModelPool, caplog: pytest.LogCaptureFixture
) -> None:
    package = lstm_package(tmp_path)
    model = await pool.load("lstm")
    shutil.rmtree(package)
    lstm_package(tmp_path, seed=2)

    for _ in range(2):
        await pool.take_notice(Entry("lstm", "1"))

    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert "publish other bytes as the next version" in record.__dict__["why"]
    assert await pool.resolve("lstm") is model


async def test_other_bytes_are_refused_when_the_version_has_been_unloaded(
    tmp_path: Path, pool: ModelPool
) -> None:
    package = lstm_package(tmp_path)
    pool.unload(await pool.load("lstm"))
    shutil.rmtree(package)
    lstm_package(tmp_path, seed=2)

    with pytest.raises(PackageError, match="as loaded, got"):
        await pool.resolve("lstm")


@pytest.mark.parametrize("touch", [Path.touch, lambda path: shutil.rmtree(path.parent)])
async def test_a_loaded_version_that_is_touched_or_removed_is_no_news(
    tmp_path: Path, pool: ModelPool, caplog: pytest.LogCaptureFixture, touch: Callable[[Path], None]
) -> None:
    package = lstm_package(tmp_path)
    model = await pool.load("lstm")
    touch(package / "model.onnx")

    await pool.take_notice(Entry("lstm", "1"))

    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert pool.models() == [model]


async def test_a_version_that_an_operator_unloads_serves_no_new_sessions_when_it_comes_back(
    tmp_path: Path, pool: ModelPool
) -> None:
    for version in ("1", "2"):
        lstm_package(tmp_path, version=version)
    old = await pool.load("lstm", "1")
    pool.unload(await pool.load("lstm", "2"))
    pool.withdraw(Entry("lstm", "2"))

    brought_back = await pool.resolve("lstm", "2")

    assert await pool.resolve("lstm") is old
    assert pool.is_newest(old)
    pool.keep(brought_back)
    assert await pool.resolve("lstm") is brought_back


async def test_a_model_stays_healthy_while_one_of_its_versions_is_ready(
    tmp_path: Path, pool: ModelPool
) -> None:
    for version in ("1", "2"):
        lstm_package(tmp_path, version=version)
    old, new = await pool.load("lstm", "1"), await pool.load("lstm", "2")
    health: list[bool] = []
    pool.on_change = lambda _, ready: health.append(ready)

    pool.unload(old)
    pool.unload(new)

    assert health == [True, False]


async def test_loads_beside_traffic_have_a_lower_priority_and_those_before_it_have_not(
    tmp_path: Path, pool: ModelPool
) -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    counter_package(tmp_path)
    usual = niceness()
    loop, loader = asyncio.get_running_loop(), pool._loader

    before = await loop.run_in_executor(loader._threads, niceness)
    await pool.load_newest_of_each()
    after = await loop.run_in_executor(loader._threads, niceness)

    assert (before, after) == (usual, NICENESS)


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
