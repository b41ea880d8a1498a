"""`tidegate models import` refuses what does not fit or does not run, and writes nothing then."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest

from support.foreign_layouts import separate_layers
from support.foreign_model import FLOAT, ForeignModel, node, onnx_bytes
from support.foreign_tensors import answer_is_state, bidirectional, extra_outputs
from support.importing import STATE, Import


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--state", "hh=h_out"), "--state: the graph has no input 'hh'; it has x, h"),
        (("--state", "h=h_next"), "--state: the graph has no output 'h_next'; it has dims, peak, h_out, y"),
        (("--input", "y"), "--input: the graph has no input 'y'"),
        (("--output", "z"), "--output: the graph has no output 'z'"),
        (("--shape", "z=batch,2"), "--shape: the graph has no input or output 'z'"),
        (("--features", "z=a"), "--features, --units or --typical: the graph has no input or output 'z'"),
        (("--initial", "x=1"), "--initial: 'x' is no state: no --state x=OUTPUT is given"),
        (("--input", "x", "--input", "h", *STATE, "--output", "y", "--dim", "N=batch"), "m/1: input 'h' is named twice"),
        (("--state", "h=h_out", "--state", "h=y"), "--state h: given twice"),
        (("--batch-axis", "2"), "--batch-axis x=2: the graph has x: float32 [N, 2], which has no such axis"),
        (("--batch-axis", "1"), "--batch-axis x=1: the graph has x: float32 [N, 2], where it is fixed at 2: none"),
        (("--input", "x", *STATE, "--output", "y", "--output", "dims", "--dim", "N=batch"), "either every input, output and state marks a batch axis or none does; 'dims' has none"),
        (("--input", "x", *STATE, "--output", "y", "--dim", "N=batch", "--shape", "x=batch,3"), "input 'x': the manifest says [batch, 3], the graph [N, 2]"),
    ],
)  # fmt: skip
def test_flags_that_do_not_fit_the_graph_are_refused(
    importing: Import, flags: tuple[str, ...], problem: str
) -> None:
    done = importing(extra_outputs(), *flags)

    assert done.code == 1
    assert problem in done.err
    assert not done.models.exists()


@pytest.mark.parametrize(
    "flags",
    [
        ("--state", "h"),
        ("--constant", "sr=fast"),
        ("--dim", "N=rows"),
        ("--shape", "x=batch,0"),
        ("--typical", "x=1"),
        ("--initial", "h=missing.npy"),
        ("--batch-axis", "first"),
    ],
)
def test_a_flag_that_cannot_be_read_is_wrong_usage(importing: Import, flags: tuple[str, ...]) -> None:
    done = importing(extra_outputs(), *flags)

    assert done.code == 2
    assert f"Invalid value for '{flags[0]}': expected " in done.err


def test_a_state_that_does_not_close_is_refused_before_anything_is_written(importing: Import) -> None:
    nodes = [node("Concat", ["h", "x"], ["h_out"], axis=1), node("Identity", ["x"], ["y"])]
    wide = (FLOAT, ["N", "M"])
    graph = onnx_bytes(nodes, {"x": (FLOAT, ["N", 2]), "h": wide}, {"y": (FLOAT, ["N", 2]), "h_out": wide})

    done = importing(graph, "--input", "x", *STATE, "--dim", "N=batch", "--dim", "M=4")

    assert done.code == 1
    assert "state 'h_out', which is carried to 'h', expected float32 [1, 4], got float32 [1, 6]" in done.err
    assert not done.models.exists()


@pytest.mark.parametrize(
    ("model", "states"),
    [
        (separate_layers(), ("p=k", "q=z", "m=c", "b=w_out")),
        (separate_layers(), ("p=c", "q=k", "m=z", "b=w_out")),
        (bidirectional(), ("h=h_out", "c=c_out")),
    ],
    ids=["h and c swapped", "layers swapped", "bidirectional"],
)
def test_steps_that_do_not_make_up_a_chunk_show_wrong_pairs_and_looking_ahead(
    importing: Import, model: ForeignModel, states: tuple[str, ...]
) -> None:
    flags = [flag for pair in states for flag in ("--state", pair)]

    done = importing(
        model, "--input", "x", *flags, "--initial", "zeros", "--dim", "N=batch", "--dim", "T=time"
    )

    assert done.code == 1
    assert "either a --state pair is wrong, or the graph looks ahead" in done.err
    assert not done.models.exists()


def test_other_bytes_under_a_version_that_exists_are_refused(importing: Import) -> None:
    flags = ("--input", "x", *STATE, "--dim", "N=batch", "--output")
    assert importing(extra_outputs(), *flags, "y").code == 0

    again = importing(extra_outputs(), *flags, "y")
    other = importing(answer_is_state(), *flags, "h_out")

    assert again.code == 0
    assert (other.code, "choose the next version number" in other.err) == (1, True)


def test_a_graph_with_weights_in_other_files_is_refused_with_the_way_out(
    importing: Import, tmp_path: Path
) -> None:
    model = onnx.load_from_string(answer_is_state().onnx)
    onnx.save_model(
        model, tmp_path / "split.onnx", save_as_external_data=True, size_threshold=0, location="split.data"
    )

    done = importing((tmp_path / "split.onnx").read_bytes(), "--input", "x")

    assert done.code == 1
    assert "keeps weights in other files, and a package has one" in done.err
    assert "onnx.save" in done.err


def test_an_import_without_the_server_extra_says_which_to_install(
    importing: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for name in ("tidegate.runner.runner", "tidegate.runner.signature"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    done = importing(extra_outputs())

    assert (done.code, done.err) == (
        1,
        "error: tidegate models needs the server extra: pip install 'tidegate[server]'\n",
    )
