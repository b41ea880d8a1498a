"""What a manifest may say, and the one line it is refused with."""

from __future__ import annotations

import re

import pytest

from tidegate.errors import PackageError
from tidegate.model.manifest import Manifest, format_manifest, parse_manifest

VALID = """
format = 1
name = "m"
version = "1"
sha256 = "{sha}"

[[inputs]]
name = "x"
dtype = "float32"
shape = ["batch", "time", 2]
features = ["a", "b"]

[[outputs]]
name = "y"
dtype = "float32"
shape = ["batch", "time", 3]

[[states]]
input_name = "h"
output_name = "h_next"
dtype = "float32"
shape = [1, "batch", 4]
""".replace("{sha}", "0" * 64)


def parse(text: str) -> Manifest:
    return parse_manifest(text, source="manifest.toml")


def test_axes_are_found_by_their_marks() -> None:
    manifest = parse(VALID)

    (x,), (h,) = manifest.inputs, manifest.states
    assert (x.batch_axis, x.time_axis, x.step_shape) == (0, 1, (2,))
    assert (h.batch_axis, h.time_axis, h.step_shape) == (1, None, (1, 4))
    assert h.graph_shape(5, 7) == (1, 5, 4)
    assert (manifest.has_batch_axis, manifest.has_time_axis, manifest.label) == (True, True, "m/1")


def test_a_manifest_survives_writing_and_reading() -> None:
    manifest = parse(
        VALID + '[time]\ncolumn = "t"\nmissing = "repeat-last"\n[provenance.metrics]\nmae = 0.5\n'
    )

    again = parse(format_manifest(manifest))

    assert again == manifest


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("format = 1", "format = 2", "manifest.toml: format: Input should be 1, got 2"),
        ('name = "m"', 'name = "../m"', "manifest.toml: name: String should match pattern"),
        ('version = "1"', 'version = "0"', "manifest.toml: version: String should match pattern"),
        ('version = "1"', 'version = "1"\nowner = "me"', "manifest.toml: owner: there is no such key"),
        ("0" * 64, "abc", "manifest.toml: sha256: String should match pattern"),
        ('dtype = "float32"\nshape = ["batch", "time", 2]', 'shape = ["batch", "time", 2]', "inputs.0.dtype: Field required"),
        ('"float32"\nshape = ["batch", "time", 2]', '"text"\nshape = ["batch", "time", 2]', "inputs.0.dtype: Input should be"),
        ('["batch", "time", 2]', '["batch", "batch", 2]', "'batch' marks more than one axis"),
        ('["batch", "time", 2]', '["batch", "rows", 2]', "inputs.0.shape.1"),
        ('["batch", "time", 2]', '["batch", "time", 0]', "inputs.0.shape.2"),
        ('["batch", "time", 2]', '["batch", "time", 3]', "features: 2 given for a last axis of 3"),
        ('[1, "batch", 4]', '[1, "batch", "time"]', "a state has no time axis"),
        ('[1, "batch", 4]', "[1, 1, 4]", "either every input, output and state marks a batch axis or none does"),
        ('["batch", "time", 3]', '["batch", 3]', "either every input and output marks a time axis or none does"),
        ('input_name = "h"', 'input_name = "x"', "input 'x' is named twice"),
        ('output_name = "h_next"', 'output_name = "y"', "'y' is an output and a state: expected one dtype and shape, got"),
        ('name = "y"', 'name = "x"\ndtype = "float32"\nshape = ["batch", "time", 3]\n[[outputs]]\nname = "x"', "output 'x' is named twice"),
        ('[1, "batch", 4]', '[1, "batch", 4]\n[[states]]\ninput_name = "c"\noutput_name = "h_next"\ndtype = "float32"\nshape = [1, "batch", 4]', "state output 'h_next' is named twice"),
        ('[1, "batch", 4]', '[1, "batch", 4]\ninitial = { value = 1e39 }', "1e+39 is no float32"),
        ('"float32"\nshape = [1, "batch", 4]', '"int64"\nshape = [1, "batch", 4]\ninitial = { value = 0.5 }', "0.5 is no int64"),
        ('[[states]]', '[[constants]]\nname = "rate"\ndtype = "uint8"\nvalue = 256\n[[states]]', "256 is no uint8"),
        ('name = "m"', "name = ", "manifest.toml: not TOML"),
    ],
)  # fmt: skip
def test_a_wrong_manifest_is_refused_by_key(old: str, new: str, problem: str) -> None:
    assert old in VALID

    with pytest.raises(PackageError, match=re.escape(problem)) as caught:
        parse(VALID.replace(old, new))

    assert caught.value.code == "FAILED_PRECONDITION"
    assert "\n" not in str(caught.value)


def test_an_answer_may_be_carried_too() -> None:
    one_tensor = (
        VALID.replace("batch", "1")
        .replace('["1", "time", 3]', "[1, 4]")
        .replace('["1", "time", 2]', "[1, 2]")
    )
    one_tensor = one_tensor.replace('[1, "1", 4]', "[1, 4]").replace(
        'output_name = "h_next"', 'output_name = "y"'
    )

    manifest = parse(one_tensor)

    assert manifest.states[0].output_name == manifest.outputs[0].name == "y"


def test_an_initial_state_may_not_leave_the_package() -> None:
    with pytest.raises(PackageError, match="initial"):
        parse(VALID + 'initial = { file = "../h.npy" }\n')


def test_a_manifest_needs_an_input_and_an_output() -> None:
    without = re.sub(r"\[\[inputs\]\].*?\n\n", "", VALID, flags=re.DOTALL)

    with pytest.raises(PackageError, match="inputs: Field required"):
        parse(without)
