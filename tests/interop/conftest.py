"""What the tests with foreign clients share: one server, with models whose answers can be told by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.onnx_models import decay_package, lstm_package
from support.server import ServerProcess
from support.unsorted_states import unsorted_package

_ids = itertools.count(1000)


@pytest.fixture(scope="session")
def interop_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`decay`, `twin` and `spare` (h' = h / 2 + x, y = h', width 4), `lstm` (3 features to 16), `unsorted`."""
    repository = tmp_path_factory.mktemp("interop-models")
    for name in ("decay", "twin", "spare"):
        decay_package(repository, name=name)
    lstm_package(repository)
    unsorted_package(repository)
    return repository


@pytest.fixture(scope="session")
def server(interop_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all of them; each test takes ids of its own."""
    with ServerProcess(interop_models, tmp_path_factory.mktemp("interop-server")) as server:
        yield server


@pytest.fixture
def new_id() -> Callable[[], int]:
    """Gives an id that no other test has."""
    return lambda: next(_ids)
