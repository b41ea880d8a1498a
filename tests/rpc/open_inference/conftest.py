"""The door on three small models: `counter`, `lstm` (two versions) and `start`, which begins elsewhere than at 0."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from support.odd_models import counter_package
from support.onnx_models import lstm_package
from support.open_inference_server import serving
from support.session_bench import SessionBench

if TYPE_CHECKING:
    from tidegate.oip.open_inference_pb2_grpc import GRPCInferenceServiceAsyncStub


@pytest.fixture(scope="package")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that no test changes."""
    repository = tmp_path_factory.mktemp("models")
    counter_package(repository)
    counter_package(repository, name="start", start=np.array([1, 2], np.float32))
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
async def stub(bench: SessionBench) -> AsyncIterator[GRPCInferenceServiceAsyncStub]:
    """A client of the door."""
    async with serving(bench) as stub:
        yield stub
