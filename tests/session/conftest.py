"""A session manager with two small models: `counter` (h' = h + x) and `lstm`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.odd_models import counter_package
from support.onnx_models import lstm_package
from support.session_bench import Lives, SessionBench


@pytest.fixture(scope="package")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that no test changes."""
    repository = tmp_path_factory.mktemp("models")
    counter_package(repository)
    lstm_package(repository, version="1")
    lstm_package(repository, version="2", seed=2)
    return repository


@pytest.fixture
async def bench(models: Path) -> AsyncIterator[SessionBench]:
    """Its books are held after every test."""
    bench = SessionBench(models)
    yield bench
    bench.close()


@pytest.fixture
async def lives(models: Path, tmp_path: Path) -> AsyncIterator[Lives]:
    """Nobody lives yet."""
    lives = Lives(models, tmp_path / "sessions.db")
    yield lives
    lives.end()
