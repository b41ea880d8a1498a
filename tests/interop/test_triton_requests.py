"""Everything of tritonclient that is not a sequence: windows, metadata, statistics, the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.foreign import call
from support.sequences import ONES, code, start, step
from support.server import ServerProcess
from tidegate import __version__

EXTENSIONS = {"sequence", "sequence(string_id)", "model_repository", "model_configuration", "statistics"}


def infer(server: ServerProcess, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = call("triton_calls", "calls", server.address, requests=requests)
    return answers


def ask(server: ServerProcess, *methods: tuple[str, dict[str, Any]]) -> list[Any]:
    answers: list[Any] = call("triton_calls", "ask", server.address, methods=methods)
    return answers


@pytest.mark.parametrize("script", ["triton_calls", "triton_aio"])
@pytest.mark.parametrize("typed", [False, True], ids=["raw", "typed"])
def test_a_window_begins_at_the_initial_state(server: ServerProcess, script: str, typed: bool) -> None:
    window = {"model": "decay", "x": [ONES * 3], "typed": typed, "request_id": "w"}

    answers = call(script, "calls", server.address, requests=[window, window])

    told = {"outputs": ["y"], "id": "w", "y": [1.0] * 4 + [1.5] * 4 + [1.75] * 4, "shape": [1, 3, 4]}
    assert answers == [told, told]


def test_windows_of_one_request_do_not_see_one_another(server: ServerProcess) -> None:
    answers = infer(server, {"model": "decay", "x": [ONES * 2, [[2.0] * 4] * 2]})

    assert answers[0]["shape"] == [2, 2, 4]
    assert answers[0]["y"] == [1.0] * 4 + [1.5] * 4 + [2.0] * 4 + [3.0] * 4


def test_a_request_without_a_time_axis_is_one_step_and_so_is_its_answer(server: ServerProcess) -> None:
    answers = infer(server, {"model": "decay", "x": [[1.0] * 4, [2.0] * 4, [3.0] * 4]})

    assert answers[0]["shape"] == [3, 4]
    assert answers[0]["y"] == [1.0] * 4 + [2.0] * 4 + [3.0] * 4


def test_outputs_are_those_that_were_asked_for(server: ServerProcess) -> None:
    asked, unknown = infer(
        server,
        {"model": "decay", "x": ONES, "outputs": ["y"]},
        {"model": "decay", "x": ONES, "outputs": ["z"]},
    )

    assert asked["outputs"] == ["y"]
    assert code(unknown) == "INVALID_ARGUMENT"
    assert "z" in unknown["error"]


def test_the_server_and_its_models_say_what_they_are(server: ServerProcess) -> None:
    live, ready, known, unknown, told, model = ask(
        server,
        ("is_server_live", {}),
        ("is_server_ready", {}),
        ("is_model_ready", {"model_name": "lstm", "model_version": "1"}),
        ("is_model_ready", {"model_name": "no-such-model"}),
        ("get_server_metadata", {"as_json": True}),
        ("get_model_metadata", {"model_name": "lstm", "as_json": True}),
    )

    assert (live, ready, known, unknown) == (True, True, True, False)
    assert (told["name"], told["version"]) == ("tidegate", __version__)
    assert set(told["extensions"]) >= EXTENSIONS
    assert (model["name"], model["versions"]) == ("lstm", ["1"])
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "-1", "3"]}]
    assert model["outputs"] == [{"name": "y", "datatype": "FP32", "shape": ["-1", "-1", "16"]}]


def test_the_configuration_names_the_states_in_pairs(server: ServerProcess) -> None:
    (told,) = ask(server, ("get_model_config", {"model_name": "unsorted", "as_json": True}))

    config = told["config"]
    pairs = [(s["input_name"], s["output_name"]) for s in config["sequence_batching"]["state"]]
    assert config["name"] == "unsorted"
    assert pairs == [("a_in", "z_out"), ("b_in", "y_out")]
    assert [(i["name"], i["data_type"]) for i in config["input"]] == [("x", "TYPE_FP32")]


def test_statistics_count_every_row_once(server: ServerProcess) -> None:
    def statistics() -> dict[str, Any]:
        keywords = {"model_name": "twin", "as_json": True}
        (told,) = ask(server, ("get_inference_statistics", keywords))
        (stats,) = told["model_stats"]
        return dict(stats)

    before = statistics()
    windows = {"model": "twin", "x": [[1.0] * 4] * 3}
    infer(server, windows, start("counted", model="twin"), step("counted", model="twin"))
    after = statistics()

    def grown(*path: str) -> int:
        return _number(after, *path) - _number(before, *path)

    assert grown("inference_count") == 5
    assert grown("inference_stats", "success", "count") == 5
    assert grown("inference_stats", "queue", "count") == 5
    assert grown("inference_stats", "fail", "count") == 0
    assert grown("inference_stats", "success", "ns") >= grown("inference_stats", "compute_infer", "ns") > 0
    assert grown("execution_count") == _runs(after) - _runs(before)
    assert _rows(after) - _rows(before) == 5


def _number(statistics: Any, *path: str) -> int:
    for name in path:
        statistics = statistics.get(name, {})
    return int(statistics or 0)


def _runs(statistics: Any) -> int:
    return sum(_number(b, "compute_infer", "count") for b in statistics.get("batch_stats", []))


def _rows(statistics: Any) -> int:
    sizes = statistics.get("batch_stats", [])
    return sum(int(b["batch_size"]) * _number(b, "compute_infer", "count") for b in sizes)


def test_a_model_is_unloaded_and_loaded_again(server: ServerProcess) -> None:
    spare = {"model_name": "spare"}

    unloaded, gone, index, loaded, back = ask(
        server,
        ("unload_model", spare),
        ("is_model_ready", spare),
        ("get_model_repository_index", {"as_json": True}),
        ("load_model", spare),
        ("is_model_ready", spare),
    )

    states = {m["name"]: m["state"] for m in index["models"]}
    assert (unloaded, gone, loaded, back) == (None, False, None, True)
    assert states["spare"] == "UNAVAILABLE"
    assert states["decay"] == "READY"


def test_a_model_that_a_sequence_needs_is_not_unloaded(server: ServerProcess) -> None:
    infer(server, start("needs its model"))

    (refused,) = ask(server, ("unload_model", {"model_name": "decay"}))

    assert code(refused) == "FAILED_PRECONDITION"


def test_a_model_cannot_be_sent_in(server: ServerProcess) -> None:
    by_config, unknown = ask(
        server,
        ("load_model", {"model_name": "decay", "config": "{}"}),
        ("load_model", {"model_name": "no-such-model"}),
    )

    assert code(by_config) in ("INVALID_ARGUMENT", "UNIMPLEMENTED")
    assert code(unknown) == "NOT_FOUND"


def test_an_operator_can_keep_the_repository_to_himself(interop_models: Path, tmp_path: Path) -> None:
    with ServerProcess(interop_models, tmp_path, TIDEGATE_MODEL_CONTROL="false") as server:
        load, unload, index = ask(
            server,
            ("load_model", {"model_name": "decay"}),
            ("unload_model", {"model_name": "decay"}),
            ("get_model_repository_index", {"as_json": True}),
        )

    assert (code(load), code(unload)) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
    assert len(index["models"]) == 5


@pytest.mark.parametrize(
    ("method", "keywords"),
    [
        ("get_system_shared_memory_status", {}),
        ("register_system_shared_memory", {"name": "n", "key": "k", "byte_size": 64}),
        ("get_cuda_shared_memory_status", {}),
        ("get_trace_settings", {}),
        ("update_log_settings", {"settings": {"log_info": True}}),
    ],
)
def test_what_is_not_there_says_so(server: ServerProcess, method: str, keywords: dict[str, Any]) -> None:
    (refused,) = ask(server, (method, keywords))

    assert code(refused) == "UNIMPLEMENTED"


def test_inputs_in_shared_memory_and_classes_are_refused_by_name(server: ServerProcess) -> None:
    shared, classes = infer(
        server,
        {"model": "decay", "x": ONES, "shared_memory": "region"},
        {"model": "decay", "x": ONES, "outputs": ["y"], "class_count": 2},
    )

    assert "shared_memory" in shared["error"]
    assert "classification" in classes["error"]
    assert {code(shared), code(classes)} <= {"INVALID_ARGUMENT", "UNIMPLEMENTED"}
