"""Packages that do not hold what they say: refused with one clear line each, beside one that is served."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc.code_pb2 import Code
from grpc import aio

from support.ids import new_id
from support.onnx_models import last_value_package, lstm_package, widening_package
from support.raw_stream import RawStream, alone
from support.server import ServerProcess
from tidegate.model.manifest import Manifest, format_manifest, parse_manifest
from tidegate.model.package import MANIFEST_FILE, MODEL_FILE, content_hash
from tidegate.v1 import stream_pb2 as pb
from tidegate.v1.model_pb2 import (
    MODEL_STATE_FAILED,
    MODEL_STATE_READY,
    GetModelRequest,
    ListModelsRequest,
    LoadModelRequest,
    Model,
    ModelVersion,
)
from tidegate.v1.model_pb2_grpc import ModelServiceStub


def corrupt(repository: Path) -> None:
    """One bit of the weights differs from what was hashed."""
    path = lstm_package(repository, name="corrupt") / MODEL_FILE
    onnx = bytearray(path.read_bytes())
    onnx[len(onnx) // 2] ^= 1
    path.write_bytes(onnx)


def truncated(repository: Path) -> None:
    """Half an ONNX file, hashed as it is."""
    path = lstm_package(repository, name="truncated")
    onnx = (path / MODEL_FILE).read_bytes()
    (path / MODEL_FILE).write_bytes(onnx[: len(onnx) // 2])
    change_manifest(path, lambda m: m.model_copy(update={"sha256": content_hash(onnx[: len(onnx) // 2], {})}))


def batch_first(repository: Path) -> None:
    lstm_package(repository, name="batch-first", layout=1)


def open_pair(repository: Path) -> None:
    widening_package(repository, name="open-pair")


def lost_pair(repository: Path) -> None:
    """The manifest carries a state that the graph does not give."""

    def change(manifest: Manifest) -> Manifest:
        h, c = manifest.states
        return manifest.model_copy(update={"states": (h, c.model_copy(update={"output_name": "c_next"}))})

    change_manifest(lstm_package(repository, name="lost-pair"), change)


def swapped_pair(repository: Path) -> None:
    """A state of one shape is carried to an input of another."""
    change_manifest(
        last_value_package(repository, name="wrong-width"),
        lambda m: m.model_copy(update={"states": (m.states[0].model_copy(update={"shape": ("batch", 5)}),)}),
    )


def no_manifest(repository: Path) -> None:
    (lstm_package(repository, name="no-manifest") / MANIFEST_FILE).unlink()


def unknown_key(repository: Path) -> None:
    path = lstm_package(repository, name="unknown-key") / MANIFEST_FILE
    path.write_text("horizon = 4\n" + path.read_text())


def change_manifest(path: Path, change: Callable[[Manifest], Manifest]) -> None:
    manifest = parse_manifest((path / MANIFEST_FILE).read_text(), source="test")
    (path / MANIFEST_FILE).write_text(format_manifest(change(manifest)))


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "corrupt": (corrupt, "sha256: expected"),
    "truncated": (truncated, "truncated/1: ONNX Runtime refuses the graph"),
    "batch-first": (batch_first, "batch-first/1: ONNX Runtime refuses the graph"),
    "open-pair": (
        open_pair,
        "state 'h_out', which is carried to 'h', expected float32 [1, 4], got float32 [1, 8]",
    ),
    "lost-pair": (lost_pair, "the graph has no output 'c_next'; it has c_out, h_out, y"),
    "wrong-width": (swapped_pair, "'h'"),
    "no-manifest": (no_manifest, "manifest.toml: No such file"),
    "unknown-key": (unknown_key, "manifest.toml: horizon: "),
}
"""Name of the model: how it is made bad, and what its refusal must say."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    repository = tmp_path_factory.mktemp("models")
    lstm_package(repository, name="good")
    for make_bad, _ in BAD.values():
        make_bad(repository)
    with ServerProcess(repository, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def first_log(server: ServerProcess) -> str:
    """The log of the start: whoever asks for a refused model later has it loaded, and refused, again."""
    return server.log().partition('"message": "ready"')[0]


def refusals(log: str, model: str) -> list[str]:
    """What the log says of a model that was refused."""
    lines = [json.loads(line) for line in log.splitlines() if '"model refused"' in line]
    return [entry["why"] for entry in lines if entry["model"] == f"{model}/1"]


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_package_is_refused_in_one_line(first_log: str, channel: aio.Channel, name: str) -> None:
    _, text = BAD[name]

    model: Model = (
        await ModelServiceStub(channel).GetModel(GetModelRequest(version=ModelVersion(name=name)))
    ).model

    assert model.state == MODEL_STATE_FAILED
    assert text in model.failure
    assert "\n" not in model.failure
    assert refusals(first_log, name) == [model.failure]
    assert "Traceback" not in first_log


@pytest.mark.parametrize("name", BAD)
async def test_opening_a_refused_model_gives_the_reason_and_harms_nobody(
    channel: aio.Channel, name: str
) -> None:
    _, text = BAD[name]
    x = np.random.default_rng(1).normal(0, 1, (6, 3)).astype(np.float32)
    expected = await alone(channel, "good", new_id(), x)

    async with RawStream(channel) as stream:
        good = await stream.handles("good", new_id())
        before = await stream.step(good, [0], x[None, :3])
        bad = pb.Open(
            open_id=10**6,
            model=ModelVersion(name=name),
            mode="OPEN_MODE_CREATE",
            session_ids=[new_id("never")],
        )
        await stream.send(open=bad)
        following = await stream.submit(good, [3], x[None, 3:])
        refused = (await stream.receive(lambda m: m.error.open_id == 10**6)).error.error
        after = await stream.reply(following, 1, 3)

    assert (Code.Name(refused.code), refused.reason) == ("FAILED_PRECONDITION", "BAD_PACKAGE")
    assert text in refused.message
    answers = np.concatenate([before.output(), after.output()], axis=1)[0]
    assert answers.tobytes() == expected.tobytes()


async def test_loading_a_refused_model_fails_with_the_reason(channel: aio.Channel) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await ModelServiceStub(channel).LoadModel(LoadModelRequest(version=ModelVersion(name="open-pair")))

    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert BAD["open-pair"][1] in (caught.value.details() or "")


async def test_the_list_holds_the_good_and_the_bad(channel: aio.Channel) -> None:
    models = (await ModelServiceStub(channel).ListModels(ListModelsRequest())).models

    states = {m.version.name: m.state for m in models}
    assert states == dict.fromkeys(BAD, MODEL_STATE_FAILED) | {"good": MODEL_STATE_READY}
