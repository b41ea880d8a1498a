"""A session manager with small models: `counter` (h' = h + x) in two versions, `lstm`, and `table`, which can fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.odd_models import counter_package
from support.onnx_models import lstm_package, table_package
from support.sequence_clients import SequenceClient
from support.session_bench import LIMITS, SessionBench

BACKGROUND = replace(LIMITS, sequence_durability="background")


@pytest.fixture(scope="package")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that no test changes."""
    repository = tmp_path_factory.mktemp("models")
    counter_package(repository)
    counter_package(repository, version="2")
    counter_package(repository, name="wide", width=1024)
    lstm_package(repository)
    table_package(repository)
    return repository


@pytest.fixture(params=["memory", "before-answer", "background"])
async def door_bench(
    request: pytest.FixtureRequest, models: Path, tmp_path: Path
) -> AsyncIterator[SessionBench]:
    """Without a lasting store, and with one in both modes."""
    store = "memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'sessions.db'}"
    bench = SessionBench(models, store=store, limits=BACKGROUND if request.param == "background" else LIMITS)
    yield bench
    bench.close()


@pytest.fixture
def client(door_bench: SessionBench) -> SequenceClient:
    return SequenceClient(door_bench.manager)
