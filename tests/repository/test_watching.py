"""What is noticed in real folders, at times that the test decides."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from support.onnx_models import lstm_package
from tidegate.errors import ConfigError
from tidegate.repository.repository import Entry, Repository
from tidegate.repository.watching import PATIENCE_S, RESCAN_S, SETTLE_S, Watch, notices

FIRST = Entry("lstm", "1")
SECOND = Entry("lstm", "2")

NOTICE_TIMEOUT_S = 20.0


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A whole package that lies outside the repository."""
    return lstm_package(tmp_path / "elsewhere", version="2")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one version."""
    lstm_package(tmp_path / "models")
    return (tmp_path / "models").resolve()


@pytest.fixture
def watch(root: Path) -> Watch:
    return Watch(Repository(root))


def at_rest(watch: Watch, now_s: float) -> list[Entry]:
    """Two looks, so that what is seen first has had its time to settle."""
    return watch.look(now_s) + watch.look(now_s + SETTLE_S)


def test_what_was_there_at_the_start_is_no_news(watch: Watch) -> None:
    assert at_rest(watch, 1.0) == []
    assert watch.look(PATIENCE_S * 2) == []


def test_a_version_that_comes_whole_is_found_once_when_it_has_settled(
    root: Path, watch: Watch, package: Path
) -> None:
    shutil.copytree(package, root / "lstm" / "2")

    found = [watch.look(t) for t in (1.0, 1.0 + SETTLE_S / 2, 1.0 + SETTLE_S, 2.0 + SETTLE_S)]

    assert found == [[], [], [SECOND], []]


@pytest.mark.parametrize("missing", ["model.onnx", "manifest.toml"])
def test_a_version_that_lacks_a_file_is_found_when_it_has_come(
    root: Path, watch: Watch, package: Path, missing: str
) -> None:
    shutil.copytree(package, root / "lstm" / "2", ignore=shutil.ignore_patterns(missing))
    before = [watch.look(t) for t in (1.0, 2.0, 3.0, PATIENCE_S)]

    shutil.copy(package / missing, root / "lstm" / "2")

    assert before == [[]] * 4
    assert at_rest(watch, PATIENCE_S + 0.5) == [SECOND]


@pytest.mark.parametrize("name", ["model.onnx", "manifest.toml"])
def test_a_file_that_grows_is_not_found_before_it_is_whole(
    root: Path, watch: Watch, package: Path, name: str
) -> None:
    shutil.copytree(package, root / "lstm" / "2")
    whole = (package / name).read_bytes()
    times = range(1, 10)

    found = []
    for t in times:
        (root / "lstm" / "2" / name).write_bytes(whole[: len(whole) * t // 10])
        found += at_rest(watch, float(t))
    (root / "lstm" / "2" / name).write_bytes(whole)

    assert found == []
    assert at_rest(watch, 10.0) == [SECOND]


@pytest.mark.parametrize("spoil", [lambda f: (f / "model.onnx").write_bytes(b"x"), shutil.rmtree])
def test_what_stays_wrong_is_found_once_after_a_while(
    root: Path, watch: Watch, package: Path, spoil: Callable[[Path], object]
) -> None:
    shutil.copytree(package, root / "lstm" / "2")
    spoil(root / "lstm" / "2")
    (root / "lstm" / "2").mkdir(exist_ok=True)

    found = [watch.look(t) for t in (1.0, 2.0, PATIENCE_S, 1.0 + PATIENCE_S, 2.0 + PATIENCE_S)]

    assert found == [[], [], [], [SECOND], []]


def test_folders_that_start_with_a_dot_are_not_looked_at(root: Path, watch: Watch, package: Path) -> None:
    shutil.copytree(package, root / "lstm" / ".2-copying")
    shutil.copytree(package, root / ".new" / "2")

    before = at_rest(watch, 1.0) + watch.look(PATIENCE_S * 2)
    (root / "lstm" / ".2-copying").rename(root / "lstm" / "2")

    assert before == []
    assert at_rest(watch, PATIENCE_S * 3) == [SECOND]


def test_bytes_that_change_under_a_version_are_found(root: Path, watch: Watch) -> None:
    shutil.rmtree(root / "lstm" / "1")
    lstm_package(root, seed=2)

    assert at_rest(watch, 1.0) == [FIRST]


def test_a_version_that_is_removed_is_no_news_and_is_when_it_comes_back(root: Path, watch: Watch) -> None:
    (root / "lstm" / "1").rename(root / ".1")
    gone = at_rest(watch, 1.0)

    (root / ".1").rename(root / "lstm" / "1")

    assert gone == []
    assert at_rest(watch, 2.0) == [FIRST]


def test_the_newest_of_several_is_found_first(root: Path, watch: Watch) -> None:
    for name, version in (("b", "9"), ("b", "10"), ("a", "1")):
        lstm_package(root, name=name, version=version)

    assert at_rest(watch, 1.0) == [Entry("a", "1"), Entry("b", "10"), Entry("b", "9")]


def test_what_has_come_is_looked_at_again_soon(root: Path, watch: Watch) -> None:
    quiet = watch.next_look_s
    (root / "lstm" / "2").mkdir()

    watch.look(1.0)
    settling = watch.next_look_s
    watch.look(1.0 + SETTLE_S)

    assert (quiet, settling, watch.next_look_s) == (RESCAN_S, SETTLE_S, RESCAN_S)


def test_a_repository_that_goes_and_comes_back_is_looked_at_again(
    root: Path, watch: Watch, package: Path
) -> None:
    root.rename(root.parent / "away")
    with pytest.raises(ConfigError):
        watch.look(1.0)

    (root.parent / "away").rename(root)
    shutil.copytree(package, root / "lstm" / "2")

    assert at_rest(watch, 2.0) == [SECOND]


@pytest.mark.parametrize("polling", [False, True])
async def test_the_system_tells_of_a_version_that_comes(
    root: Path, package: Path, monkeypatch: pytest.MonkeyPatch, polling: bool
) -> None:
    if polling:
        monkeypatch.setenv("WATCHFILES_FORCE_POLLING", "true")
    noticed = asyncio.Event()
    task = asyncio.create_task(notices(root, noticed.set))

    async with asyncio.timeout(NOTICE_TIMEOUT_S):
        for version in itertools.count(2):  # the first may come before the system has begun to watch
            shutil.copytree(package, root / "lstm" / str(version))
            with suppress(TimeoutError):
                await asyncio.wait_for(noticed.wait(), 1.0)
                break
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_folder_that_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No path was found"):
        await notices(tmp_path / "nowhere", lambda: None)
