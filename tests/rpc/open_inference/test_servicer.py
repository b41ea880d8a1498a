"""What the door tells of the server, its models and its repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from grpc import aio

from support.open_inference_messages import infer_request
from support.open_inference_server import serving
from support.session_bench import LIMITS, SessionBench
from tidegate import __version__
from tidegate.oip import open_inference_pb2 as pb
from tidegate.session.open_request import OpenMode

if TYPE_CHECKING:
    from tidegate.oip.open_inference_pb2_grpc import GRPCInferenceServiceAsyncStub as Stub


async def refusal(call: aio.UnaryUnaryCall[object, object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def index(stub: Stub, *, ready: bool = False) -> dict[tuple[str, str], str]:
    answer = await stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=ready))
    return {(m.name, m.version): m.state for m in answer.models}


@pytest.mark.parametrize("is_ready", [True, False])
async def test_the_server_is_live_and_ready_when_it_says_so(bench: SessionBench, is_ready: bool) -> None:
    async with serving(bench, is_ready=is_ready) as stub:
        assert (await stub.ServerLive(pb.ServerLiveRequest())).live
        assert (await stub.ServerReady(pb.ServerReadyRequest())).ready is is_ready


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [("lstm", "", True), ("lstm", "1", True), ("lstm", "2", False), ("counter", "", False), ("x", "", False)],
)
async def test_a_model_is_ready_while_it_is_loaded(
    bench: SessionBench, stub: Stub, name: str, version: str, ready: bool
) -> None:
    await bench.pool.load("lstm", "1")

    answer = await stub.ModelReady(pb.ModelReadyRequest(name=name, version=version))

    assert answer.ready is ready


@pytest.mark.parametrize("model_control", [True, False])
async def test_the_server_says_what_it_is_and_what_is_true_of_it(
    bench: SessionBench, model_control: bool
) -> None:
    async with serving(bench, model_control=model_control) as stub:
        answer = await stub.ServerMetadata(pb.ServerMetadataRequest())

    assert (answer.name, answer.version) == ("tidegate", __version__)
    assert {"sequence", "sequence(string_id)", "statistics", "model_configuration"} < set(answer.extensions)
    assert ("model_repository" in answer.extensions) is model_control


async def test_metadata_has_the_axes_of_windows_and_steps_before_every_shape(
    bench: SessionBench, stub: Stub
) -> None:
    await bench.pool.load("lstm", "1")

    answer = await stub.ModelMetadata(pb.ModelMetadataRequest(name="lstm", version="2"))

    assert (answer.name, list(answer.versions), answer.platform) == ("lstm", ["1", "2"], "onnxruntime_onnx")
    assert [(t.name, t.datatype, list(t.shape)) for t in answer.inputs] == [("x", "FP32", [-1, -1, 3])]
    assert [(t.name, t.datatype, list(t.shape)) for t in answer.outputs] == [("y", "FP32", [-1, -1, 16])]


async def test_the_configuration_says_how_a_model_is_served(stub: Stub) -> None:
    answer = await stub.ModelConfig(pb.ModelConfigRequest(name="lstm"))

    config = answer.config
    assert (config.name, config.backend, config.max_batch_size) == ("lstm", "onnxruntime", 16384)
    assert [(i.name, i.data_type, list(i.dims)) for i in config.input] == [("x", pb.TYPE_FP32, [-1, 3])]
    assert [(o.name, o.data_type, list(o.dims)) for o in config.output] == [("y", pb.TYPE_FP32, [-1, 16])]
    assert config.WhichOneof("scheduling_choice") == "sequence_batching"
    assert [(s.input_name, s.output_name, list(s.dims)) for s in config.sequence_batching.state] == [
        ("h", "h_out", [1, 16]),
        ("c", "c_out", [1, 16]),
    ]
    assert all(s.initial_state[0].zero_data for s in config.sequence_batching.state)
    assert config.sequence_batching.max_sequence_idle_microseconds == 7_776_000_000_000
    assert config.parameters["batch_exactness"].string_value == "exact"
    assert not config.model_transaction_policy.decoupled


async def test_a_state_that_begins_with_a_file_names_it(stub: Stub) -> None:
    answer = await stub.ModelConfig(pb.ModelConfigRequest(name="start"))

    (state,) = answer.config.sequence_batching.state
    assert state.initial_state[0].data_file == "start.npy"


@pytest.mark.parametrize("name", ["x", "", "../lstm"])
async def test_a_model_that_is_not_there_is_not_found(stub: Stub, name: str) -> None:
    calls = [
        stub.ModelMetadata(pb.ModelMetadataRequest(name=name)),
        stub.ModelConfig(pb.ModelConfigRequest(name=name)),
        stub.ModelInfer(pb.ModelInferRequest(model_name=name)),
        stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=name)),
        stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=name)),
        stub.ModelStatistics(pb.ModelStatisticsRequest(name=name or "x")),
    ]

    assert {(await refusal(call))[0] for call in calls} == {grpc.StatusCode.NOT_FOUND}


async def test_statistics_count_rows_and_model_runs(stub: Stub) -> None:
    for _ in range(3):
        await stub.ModelInfer(infer_request("counter", {"x": np.ones((2, 5, 2), np.float32)}))

    (stats,) = (await stub.ModelStatistics(pb.ModelStatisticsRequest(name="counter"))).model_stats

    assert (stats.name, stats.version, stats.inference_count) == ("counter", "1", 6)
    times = stats.inference_stats
    assert times.success.count == times.queue.count == times.compute_infer.count == 6
    assert times.success.ns > times.compute_infer.ns > 0
    assert times.fail.count == 0
    assert [b.batch_size for b in stats.batch_stats] == [2]
    assert stats.execution_count == stats.batch_stats[0].compute_infer.count >= 3
    assert stats.last_inference > 1_600_000_000_000


async def test_statistics_count_what_was_accepted_and_then_refused(stub: Stub) -> None:
    await refusal(stub.ModelInfer(infer_request("counter", {"x": np.ones((2, 5, 2), np.float32)}, timeout=1)))

    (stats,) = (await stub.ModelStatistics(pb.ModelStatisticsRequest())).model_stats

    assert (stats.inference_stats.fail.count, stats.inference_count) == (2, 0)


async def test_statistics_are_of_all_loaded_versions_that_are_asked_for(
    bench: SessionBench, stub: Stub
) -> None:
    for name, version in (("lstm", "1"), ("lstm", "2"), ("counter", "1")):
        await bench.pool.load(name, version)

    found = {}
    for name, version in (("", ""), ("lstm", ""), ("lstm", "2")):
        answer = await stub.ModelStatistics(pb.ModelStatisticsRequest(name=name, version=version))
        found[name, version] = [(s.name, s.version) for s in answer.model_stats]

    assert found == {
        ("", ""): [("lstm", "1"), ("lstm", "2"), ("counter", "1")],
        ("lstm", ""): [("lstm", "1"), ("lstm", "2")],
        ("lstm", "2"): [("lstm", "2")],
    }


async def test_the_repository_shows_every_version_and_what_is_loaded(bench: SessionBench, stub: Stub) -> None:
    await bench.pool.load("lstm", "2")

    assert await index(stub) == {
        ("counter", "1"): "UNAVAILABLE",
        ("lstm", "1"): "UNAVAILABLE",
        ("lstm", "2"): "READY",
        ("start", "1"): "UNAVAILABLE",
    }
    assert await index(stub, ready=True) == {("lstm", "2"): "READY"}


async def test_a_model_is_loaded_and_unloaded_by_name(bench: SessionBench, stub: Stub) -> None:
    await bench.pool.load("lstm", "1")
    await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="lstm"))
    loaded = await index(stub, ready=True)

    await stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="lstm"))

    assert loaded == {("lstm", "1"): "READY", ("lstm", "2"): "READY"}
    assert await index(stub, ready=True) == {}


async def test_a_model_with_a_session_on_one_version_keeps_them_all(bench: SessionBench, stub: Stub) -> None:
    await bench.pool.load("lstm", "2")
    await bench.client().open("a", model="lstm", version="1", mode=OpenMode.CREATE)

    request = pb.RepositoryModelUnloadRequest(model_name="lstm")
    code, _ = await refusal(stub.RepositoryModelUnload(request))

    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert await index(stub, ready=True) == {("lstm", "1"): "READY", ("lstm", "2"): "READY"}


async def test_loading_can_be_kept_from_clients(bench: SessionBench) -> None:
    async with serving(bench, model_control=False) as stub:
        load = stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="lstm"))
        unload = stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="lstm"))

        for call in (load, unload):
            code, text = await refusal(call)
            assert code is grpc.StatusCode.PERMISSION_DENIED
            assert text == "model_control: the operator lets no client load or unload models"
        assert await index(stub, ready=True) == {}


@pytest.mark.parametrize("parameter", ["config", "file:1/model.onnx"])
async def test_a_model_that_comes_with_the_request_is_refused(stub: Stub, parameter: str) -> None:
    request = pb.RepositoryModelLoadRequest(model_name="lstm")
    request.parameters[parameter].bytes_param = b"{}"

    code, text = await refusal(stub.RepositoryModelLoad(request))

    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert parameter in text


async def test_there_is_one_repository_without_a_name(stub: Stub) -> None:
    calls = [
        stub.RepositoryIndex(pb.RepositoryIndexRequest(repository_name="other")),
        stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(repository_name="other", model_name="lstm")),
        stub.RepositoryModelUnload(
            pb.RepositoryModelUnloadRequest(repository_name="other", model_name="lstm")
        ),
    ]

    assert {(await refusal(call))[0] for call in calls} == {grpc.StatusCode.INVALID_ARGUMENT}


async def test_names_that_no_model_can_have_are_refused_before_they_are_looked_up(stub: Stub) -> None:
    name = "x" * 10_000

    code, text = await refusal(stub.ModelInfer(pb.ModelInferRequest(model_name=name)))

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert len(text) < 200


async def test_a_large_request_is_refused_while_too_much_waits(bench: SessionBench, stub: Stub) -> None:
    x = np.ones((1, LIMITS.max_pending_bytes // 8 + 1, 2), np.float32)

    code, text = await refusal(stub.ModelInfer(infer_request("counter", {"x": x})))

    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "max_pending_bytes" in text
    assert bench.pending_bytes == 0
