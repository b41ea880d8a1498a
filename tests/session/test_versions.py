"""Which loaded versions go, and which are needed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.session_bench import SessionBench
from tidegate.errors import ModelInUse
from tidegate.repository.repository import Repository
from tidegate.session.versions import VersionKeeper

AT_ONCE = 1e-9
"""Seconds after which a version that nothing needs goes."""


def keeper(bench: SessionBench, models: Path, unload_after_s: float = AT_ONCE) -> VersionKeeper:
    def fail(error: Exception) -> None:
        raise error

    return VersionKeeper(
        Repository(models), bench.manager, watches=True, unload_after_s=unload_after_s, report=fail
    )


@pytest.fixture
async def loaded(bench: SessionBench) -> AsyncIterator[SessionBench]:
    """Versions 1 and 2 of `lstm`."""
    for version in ("1", "2"):
        await bench.pool.load("lstm", version)
    return bench


def versions(bench: SessionBench) -> list[str]:
    return sorted(m.manifest.version for m in bench.pool.models())


async def test_an_old_version_that_nothing_needs_goes(loaded: SessionBench, models: Path) -> None:
    keeper(loaded, models).unload_unneeded()

    assert versions(loaded) == ["2"]


async def test_it_goes_only_after_its_time(loaded: SessionBench, models: Path) -> None:
    keeper(loaded, models, unload_after_s=100.0).unload_unneeded()

    assert versions(loaded) == ["1", "2"]


async def test_the_time_begins_when_it_was_last_needed(loaded: SessionBench, models: Path) -> None:
    old = await loaded.pool.resolve("lstm", "1")
    old.needed_at_s -= 1000.0
    ours = keeper(loaded, models, unload_after_s=100.0)

    with old.in_use():
        ours.unload_unneeded()
    ours.unload_unneeded()

    assert versions(loaded) == ["1", "2"]


async def test_a_version_that_a_client_asks_for_is_needed(loaded: SessionBench, models: Path) -> None:
    (await loaded.pool.load("lstm", "1")).needed_at_s -= 1000.0

    await loaded.pool.resolve("lstm", "1")
    keeper(loaded, models, unload_after_s=100.0).unload_unneeded()

    assert versions(loaded) == ["1", "2"]


async def test_a_version_that_a_session_is_being_made_on_stays(loaded: SessionBench, models: Path) -> None:
    old = await loaded.pool.resolve("lstm", "1")

    with old.in_use():
        keeper(loaded, models).unload_unneeded()
        with pytest.raises(ModelInUse, match="lstm/1: a session is being opened on it"):
            loaded.manager.unload(old)

    assert versions(loaded) == ["1", "2"]
    keeper(loaded, models).unload_unneeded()
    assert versions(loaded) == ["2"]


async def test_a_version_with_a_session_stays_until_it_has_ended(loaded: SessionBench, models: Path) -> None:
    client = loaded.client()
    await client.open("a", model="lstm", version="1")

    keeper(loaded, models).unload_unneeded()
    before = versions(loaded)
    await loaded.manager.end_session("a")
    keeper(loaded, models).unload_unneeded()

    assert (before, versions(loaded)) == (["1", "2"], ["2"])


async def test_a_version_that_an_operator_loaded_stays(loaded: SessionBench, models: Path) -> None:
    loaded.pool.keep(await loaded.pool.load("lstm", "1"))

    keeper(loaded, models).unload_unneeded()

    assert versions(loaded) == ["1", "2"]


async def test_a_repository_that_goes_away_is_said_once_and_ends_nothing(
    bench: SessionBench, models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(models, tmp_path / "models")
    ours = keeper(bench, tmp_path / "models")
    shutil.rmtree(tmp_path / "models")

    for _ in range(2):
        await ours._look(ours._watch)

    assert [r.getMessage() for r in caplog.records] == ["the models cannot be looked at"]


async def test_a_system_that_tells_of_nothing_is_said(
    bench: SessionBench, models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(models, tmp_path / "models")
    ours = keeper(bench, tmp_path / "models")
    shutil.rmtree(tmp_path / "models")

    await asyncio.wait_for(ours._take_notices(), 10.0)

    assert [r.getMessage() for r in caplog.records] == ["the system does not tell of changes to the models"]
