"""Stores on real files, and in memory."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.stores import open_for_test
from tidegate.session.stores.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Callable[..., Store]]:
    """Opens the store at `path`; an earlier one is closed first."""
    stores: list[Store] = []

    def open_again(**limits: int) -> Store:
        while stores:
            stores.pop().close()
        stores.append(open_for_test(path, **limits))
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[Store]:
    store = open_for_test(path if request.param == "sqlite" else None)
    yield store
    store.close()
