"""What tests of more than one folder share."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.onnx_models import decay_package, lstm_package
from support.server import MODELS, ServerProcess
from tidegate.engine import engine as engine_module

SEED_VARIABLE = "TIDEGATE_TEST_SEED"


@pytest.fixture(scope="session")
def demo_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the demo package alone: beside ours may lie what somebody trained."""
    repository = tmp_path_factory.mktemp("demo-models")
    demo = MODELS / "co2-weekly"
    shutil.copytree(demo / "1", repository / "co2-weekly" / "1")
    shutil.copy(demo / "recipe.toml", repository / "co2-weekly")
    return repository


@pytest.fixture(scope="session")
def demo_server(demo_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the demo package; tests share it, so each takes session ids of its own."""
    with ServerProcess(demo_models, tmp_path_factory.mktemp("demo-server")) as server:
        yield server


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small packages: `lstm` (3 features to 16) and `decay` (h' = h / 2 + x, width 4)."""
    repository = tmp_path_factory.mktemp("models")
    lstm_package(repository)
    decay_package(repository)
    return repository


@pytest.fixture(scope="session")
def small_server(small_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the small packages; tests share it, so each takes session ids of its own."""
    with ServerProcess(small_models, tmp_path_factory.mktemp("small-server")) as server:
        yield server


@pytest.fixture
def in_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch runs in the engine's thread; what it leaves is applied when the test awaits."""
    monkeypatch.setattr(engine_module, "INLINE_LIMIT_S", -1.0)


@pytest.fixture
def rng() -> np.random.Generator:
    """What a test leaves to chance; its seed is shown when the test fails, and the variable repeats it."""
    seed = int(os.environ.get(SEED_VARIABLE) or secrets.randbits(32))
    print(f"{SEED_VARIABLE}={seed}")  # noqa: T201
    return np.random.default_rng(seed)
