"""A session is exported, and begins again from its snapshot, here or on another server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from support.odd_models import counter_package, custom_package
from support.onnx_models import lstm_package
from support.session_bench import LIMITS, SessionBench
from support.session_clients import Caller
from tidegate.errors import (
    InvalidRequest,
    MessageTooLarge,
    ModelMismatch,
    ModelNotFound,
    ServerStopping,
    SessionExists,
)
from tidegate.model.manifest import InputSpec, OutputSpec
from tidegate.protocol.lifecycle import Condition
from tidegate.session.open_request import OpenMode
from tidegate.session.snapshot import Tensor, pack, unpack
from tidegate.session.snapshots import Snapshots
from tidegate.tensor import DType

CREATE = OpenMode.CREATE
X = np.random.default_rng(8).normal(0, 1, (1, 12, 3)).astype(np.float32)


@pytest.fixture
def caller(bench: SessionBench) -> Caller:
    return bench.caller()


@pytest.fixture
def snapshots(bench: SessionBench) -> Snapshots:
    return Snapshots(bench.manager)


async def test_an_import_goes_on_where_the_export_stood(snapshots: Snapshots, caller: Caller) -> None:
    await caller.step("a", 0, [1, 2], mode=CREATE)
    data = await snapshots.export("a")
    await caller.step("a", 2, [100])

    view = await snapshots.restore(data, "b")

    assert (view.next_step, view.condition) == (2, Condition.DETACHED)
    assert await caller.step("b", 2, [4]) == ([7], 3)


async def test_an_import_takes_the_id_of_the_snapshot_where_none_is_given(
    bench: SessionBench, snapshots: Snapshots, caller: Caller
) -> None:
    await caller.step("a", 0, [1, 2], mode=CREATE)
    data = await snapshots.export("a")
    with pytest.raises(SessionExists, match="'a' exists, at step 2"):
        await snapshots.restore(data)
    await bench.manager.end_session("a")

    assert (await snapshots.restore(data)).session_id == "a"
    assert await caller.step("a", 2, [4]) == ([7], 3)


async def test_bytes_that_are_no_snapshot_are_refused(bench: SessionBench, snapshots: Snapshots) -> None:
    with pytest.raises(InvalidRequest, match="snapshot: expected one of tidegate"):
        await snapshots.restore(b"something else", "b")

    assert await bench.condition("b") is Condition.UNKNOWN
    assert bench.pending_bytes == 0


async def test_another_version_under_the_number_is_refused_naming_both(
    snapshots: Snapshots, caller: Caller, tmp_path: Path
) -> None:
    await caller.step("a", 0, [1], mode=CREATE)
    data = await snapshots.export("a")
    counter_package(tmp_path, start=np.ones(2, np.float32))
    elsewhere = SessionBench(tmp_path)
    with pytest.raises(ModelMismatch) as caught:
        await Snapshots(elsewhere.manager).restore(data)
    theirs = (await elsewhere.pool.resolve("counter")).manifest.sha256
    elsewhere.close()

    ours = unpack(data).model.sha256
    assert ours != theirs
    assert ours in str(caught.value)
    assert theirs in str(caught.value)


async def test_a_package_that_describes_the_same_bytes_otherwise_is_refused(
    snapshots: Snapshots, caller: Caller
) -> None:
    await caller.step("a", 0, [1], mode=CREATE)
    other = replace(
        unpack(await snapshots.export("a")), tensors=(Tensor(name="h", dtype=DType.INT32, shape=(2,)),)
    )

    with pytest.raises(ModelMismatch, match=r"carries h float32 \[2\] here, got h int32 \[2\]"):
        await snapshots.restore(pack(other), "b")


async def test_a_model_that_is_not_there_is_told(
    snapshots: Snapshots, caller: Caller, tmp_path: Path
) -> None:
    await caller.step("a", 0, [1], mode=CREATE)
    data = await snapshots.export("a")
    lstm_package(tmp_path)
    elsewhere = SessionBench(tmp_path)

    with pytest.raises(ModelNotFound):
        await Snapshots(elsewhere.manager).restore(data)
    elsewhere.close()


async def test_a_session_of_a_model_that_carries_nothing_is_stored_and_imported_like_any_other(
    tmp_path: Path,
) -> None:
    shape = ("batch", 2)
    custom_package(
        tmp_path,
        "echo",
        [helper.make_node("Identity", ["x"], ["y"])],
        inputs=[InputSpec(name="x", dtype=DType.FLOAT32, shape=shape)],
        outputs=[OutputSpec(name="y", dtype=DType.FLOAT32, shape=shape)],
    )
    bench = SessionBench(tmp_path)
    caller, snapshots = bench.caller(), Snapshots(bench.manager)
    await caller.step("a", 0, [1, 2], mode=CREATE, model="echo")
    await bench.checkpoint()

    await snapshots.restore(await snapshots.export("a"), "b")

    assert await caller.step("b", 2, [7], model="echo") == ([7], 3)
    bench.close()


async def test_a_snapshot_that_fits_into_no_message_is_told(models: Path) -> None:
    bench = SessionBench(models, limits=replace(LIMITS, max_message_bytes=400))
    await bench.caller().step("a", 0, [1], mode=CREATE)

    with pytest.raises(MessageTooLarge, match=r"snapshot: expected at most 144 bytes, counter/1 has \d+"):
        await Snapshots(bench.manager).export("a")
    bench.close()


async def test_a_server_that_stops_lets_nothing_begin(
    bench: SessionBench, snapshots: Snapshots, caller: Caller
) -> None:
    await caller.step("a", 0, [1], mode=CREATE)
    data = await snapshots.export("a")
    bench.manager.drain()

    for call in (snapshots.fork("a", "b"), snapshots.restore(data, "b"), snapshots.export("a")):
        with pytest.raises(ServerStopping):
            await call
