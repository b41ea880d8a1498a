"""Versions that come to a pool's repository, change there, and are kept or withdrawn."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from support.odd_models import counter_package
from support.onnx_models import lstm_package
from support.pools import spoil
from tidegate.engine.loader import NICENESS
from tidegate.engine.pool import LoadState, ModelPool
from tidegate.errors import PackageError
from tidegate.repository.repository import Entry


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
