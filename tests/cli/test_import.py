"""`tidegate models import` reads what a graph tells, asks for the rest, and writes what it was told."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from support.foreign_layouts import fixed_batch, packed_in_if, packed_on_last_axis
from support.foreign_model import FLOAT, ForeignModel, node, onnx_bytes
from support.foreign_tensors import (
    answer_is_state,
    bidirectional,
    extra_outputs,
    not_exact,
    untold_shapes,
    whole_numbers,
)
from support.importing import STATE, Done, Import
from tidegate.model.package import read_package

TWO_WAYS = ("--state", "c=c_out", "--dim")


def questions(done: Done) -> list[str]:
    """The flags that are asked for, each without its explanation."""
    assert done.code == 1
    assert not done.models.exists()
    listed = done.err.partition("error: the graph does not tell everything; give also\n")[2]
    return [line.strip() for line in listed.splitlines() if line.startswith("  --")]


def test_everything_that_a_graph_does_not_tell_is_asked_for_at_once(importing: Import) -> None:
    done = importing(packed_in_if())

    assert questions(done) == [
        "--input input | --state input=OUTPUT | --constant input=VALUE",
        "--input state | --state state=OUTPUT | --constant state=VALUE",
        "--input sr | --state sr=OUTPUT | --constant sr=VALUE",
        "--dim N=batch|time|SIZE",
        "--initial zeros|NUMBER|FILE.npy",
    ]
    assert "takes  state: float32 [2, N, 8]" in done.err.splitlines()


def test_what_is_answered_is_asked_no_more_and_nothing_is_paired_by_name(importing: Import) -> None:
    done = importing(packed_in_if(), "--constant", "sr=16000", "--dim", "N=batch", "--initial", "zeros")

    assert questions(done) == [
        "--input input | --state input=OUTPUT | --constant input=VALUE",
        "--input state | --state state=OUTPUT | --constant state=VALUE",
    ]


def test_a_graph_whose_names_say_it_all_is_asked_about_all_the_same(importing: Import) -> None:
    row = (FLOAT, ["batch", "time", 2])
    graph = onnx_bytes([node("Identity", ["input"], ["output"])], {"input": row}, {"output": row})

    assert questions(importing(graph)) == [
        "--input input | --state input=OUTPUT | --constant input=VALUE",
        "--dim batch=batch|time|SIZE",
        "--dim time=batch|time|SIZE",
        "--initial zeros|NUMBER|FILE.npy",
    ]


def test_dimensions_without_names_are_asked_for_by_tensor(importing: Import) -> None:
    done = importing(untold_shapes(), "--input", "x", *STATE)

    assert questions(done) == ["--shape x=?,3", "--shape h=DIM,DIM,...", "--shape y=DIM,DIM,..."]


def test_a_complete_answer_writes_a_package_that_says_what_was_said(importing: Import) -> None:
    done = importing(
        packed_in_if(), "--input", "input", "--state", "state=stateN", "--constant", "sr=16000",
        "--dim", "N=batch", "--initial", "zeros", "--features", "input=a,b,c,d,e", "--units", "output=p",
        "--description", "Speech or not",
    )  # fmt: skip

    assert (done.code, done.out) == (0, f"{done.models / 'm' / '1'}\n")
    manifest = read_package(done.models / "m" / "1").manifest
    assert [(i.name, i.shape, i.features) for i in manifest.inputs] == [
        ("input", ("batch", 5), ("a", "b", "c", "d", "e"))
    ]
    assert [(s.input_name, s.output_name, s.shape) for s in manifest.states] == [
        ("state", "stateN", (2, "batch", 8))
    ]
    assert [(c.name, c.dtype, c.shape, c.value) for c in manifest.constants] == [("sr", "int64", (), 16000)]
    assert [(o.name, o.units) for o in manifest.outputs] == [("output", ("p",))]
    assert (manifest.batch_exact, manifest.description) == (True, "Speech or not")
    assert "batch-exact  yes: bit-identical however it is batched" in done.err
    assert "a run takes  many rows and one step (the graph has no time axis)" in done.err


def test_a_dry_run_prints_the_manifest_and_writes_nothing(importing: Import) -> None:
    done = importing(
        extra_outputs(), "--input", "x", *STATE, "--output", "y", "--dim", "N=batch", "--dry-run"
    )

    manifest = tomllib.loads(done.out)
    assert (done.code, manifest["name"], manifest["batch_exact"]) == (0, "m", True)
    assert [o["name"] for o in manifest["outputs"]] == ["y"]
    assert [line for line in done.err.splitlines() if line.startswith("left out")] == [
        "left out     dims",
        "left out     peak",
    ]
    assert not done.models.exists()


def test_axes_are_named_by_position_for_all_tensors_or_one(importing: Import) -> None:
    done = importing(
        packed_on_last_axis(), "--input", "x", "--state", "s=s_next", "--initial", "zeros",
        "--batch-axis", "0", "--time-axis", "-1", "--time-axis", "x=1", "--time-axis", "y=-2",
    )  # fmt: skip

    manifest = read_package(done.models / "m" / "1").manifest
    assert manifest.inputs[0].shape == ("batch", "time", 3)
    assert manifest.outputs[0].shape == ("batch", "time", 8)
    assert manifest.states[0].shape == ("batch", 16)


def test_states_start_where_they_are_said_to(importing: Import, tmp_path: Path) -> None:
    np.save(tmp_path / "ring.npy", np.array([7, 8, 9], np.float32))

    done = importing(
        whole_numbers(), "--input", "x", "--state", "count=count_out", "--state", "at=at_out", "--state", "ring=ring_out",
        "--dim", "N=batch", "--initial", "zeros", "--initial", "count=100", "--initial", f"ring={tmp_path / 'ring.npy'}",
    )  # fmt: skip

    count, at, ring = read_package(done.models / "m" / "1").initial_states
    assert (count.dtype, count.item(), at.item(), ring.tolist()) == (np.int64, 100, 0, [7, 8, 9])


def test_a_fixed_batch_needs_no_answer_and_is_told(importing: Import) -> None:
    done = importing(
        fixed_batch(), "--input", "x", "--state", "h=h_out", "--state", "c=c_out",
        "--initial", "zeros", "--dim", "T=time",
    )  # fmt: skip

    assert done.code == 0
    assert "a run takes  one row (the graph has no batch axis) and many steps" in done.err


def test_a_state_may_be_the_answer(importing: Import) -> None:
    flags = ("--input", "x", *STATE, "--dim", "N=batch")
    asked = questions(importing(answer_is_state(), *flags))

    done = importing(answer_is_state(), *flags, "--output", "h_out")

    assert (asked, done.code) == (["--output NAME"], 0)


@pytest.mark.parametrize(
    ("model", "flags", "verdict", "manner"),
    [
        (not_exact(), (), "no", "one row and one step (the graph has no time axis)"),
        (not_exact(), ("--batching", "always"), "no", "many rows and one step (the graph has no time axis)"),
        (bidirectional(), (*TWO_WAYS, "T=time", "--batching", "always"), "no", "many rows and many steps"),
        (bidirectional(), (*TWO_WAYS, "T=1"), "yes", "many rows and one step (the graph has no time axis)"),
    ],
)
def test_what_the_probe_finds_is_told_with_how_the_model_is_run(
    importing: Import, model: ForeignModel, flags: tuple[str, ...], verdict: str, manner: str
) -> None:
    done = importing(model, "--input", "x", *STATE, "--dim", "N=batch", *flags)

    assert done.code == 0
    assert f"batch-exact  {verdict}: " in done.err
    assert f"a run takes  {manner}\n" in done.err
    assert ("P1 is off" in done.err) == ("always" in flags)
    assert read_package(done.models / "m" / "1").manifest.batch_exact is (verdict == "yes")
