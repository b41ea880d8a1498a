"""How a manifest says that its model can be forecast, and what it must not say."""

from __future__ import annotations

import numpy as np
import pytest

from tidegate.errors import PackageError
from tidegate.model.forecast import FeedbackRules, feeds
from tidegate.model.manifest import Manifest, format_manifest, parse_manifest

BASE = f"""
format = 1
name = "m"
version = "1"
sha256 = "{"0" * 64}"
[[inputs]]
name = "x"
dtype = "float32"
shape = ["batch", "time", 2]
features = ["value", "season"]
[[inputs]]
name = "n"
dtype = "int64"
shape = ["batch", "time", 2]
features = ["a", "b"]
[[outputs]]
name = "y"
dtype = "float32"
shape = ["batch", "time", 2, 3]
horizon_steps = [1, 4]
quantile_levels = [0.1, 0.5, 0.9]
carried_as = "y_last"
[[outputs]]
name = "z"
dtype = "float32"
shape = ["batch", "time", 2]
features = ["value", "season"]
[[outputs]]
name = "k"
dtype = "int64"
shape = ["batch", "time"]
[[states]]
input_name = "y_last"
output_name = "y_next"
dtype = "float32"
shape = ["batch", 2, 3]
"""
DIRECT = '[forecast]\nmode = "direct"\noutputs = ["y"]\n'


def feedback(*pairs: str) -> str:
    return '[forecast]\nmode = "feedback"\n' + "".join(f"[[forecast.pairs]]\n{p}\n" for p in pairs)


Y = 'output = "y"\nquantile_level = 0.5'
VALUE = 'input = "x"\ninput_feature = "value"'


def parsed(text: str) -> Manifest:
    return parse_manifest(text, source="manifest.toml")


def refusal(text: str) -> str:
    with pytest.raises(PackageError) as caught:
        parsed(text)
    return str(caught.value).removeprefix("manifest.toml: ")


@pytest.mark.parametrize("rules", [DIRECT, feedback(f"{VALUE}\n{Y}")])
def test_a_manifest_keeps_its_rules_when_it_is_written(rules: str) -> None:
    manifest = parsed(BASE + rules)

    assert manifest.forecast is not None
    assert parsed(format_manifest(manifest)) == manifest


def test_a_pair_takes_the_next_step_and_the_named_quantile() -> None:
    manifest = parsed(
        BASE
        + feedback(
            f"{VALUE}\n{Y}", 'input = "x"\ninput_feature = "season"\noutput = "z"\noutput_feature = "season"'
        )
    )
    assert isinstance(manifest.forecast, FeedbackRules)

    value, season = feeds(manifest.forecast, manifest.inputs, manifest.outputs, manifest.states)

    y, z = np.arange(6).reshape(2, 3), np.arange(2)
    assert (value.input, value.output, value.carried, season.carried) == (0, 0, 0, None)
    assert y[value.output_index] == 1
    assert z[season.output_index] == 1
    x = np.zeros(2)
    x[season.input_index] = 7
    assert x.tolist() == [0, 7]


def test_a_whole_output_becomes_a_whole_input() -> None:
    manifest = parsed(BASE + feedback('input = "x"\noutput = "z"'))
    assert isinstance(manifest.forecast, FeedbackRules)

    [feed] = feeds(manifest.forecast, manifest.inputs, manifest.outputs, manifest.states)

    assert np.arange(2)[feed.output_index].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (BASE.replace('"y_last"\n[[', '"h"\n[[') + DIRECT, "output 'y': carried_as: expected the input_name"),
        (BASE.replace('["batch", 2, 3]', '["batch", 3, 2]'), "output 'y': carried_as: expected a state of float32 [2, 3]"),
        (BASE.replace('carried_as = "y_last"\n', "") + DIRECT, "output 'y': carried_as: required for mode 'direct'"),
        (BASE + DIRECT.replace('"y"', '"z"'), "output 'z': horizon_steps: expected one per element"),
        (BASE + DIRECT.replace('"y"', '"q"'), "forecast.outputs: expected one of y, z, k, got 'q'"),
        (BASE.replace("[1, 4]", "[4, 1]") + DIRECT, "output 'y': horizon_steps: expected ascending ones"),
        (BASE.replace("[1, 4]", "[1, 2, 4]") + DIRECT, "output 'y': horizon_steps: expected one per element"),
        (BASE + DIRECT.replace("direct", "guess"), "forecast: "),
        (BASE + feedback(f'input = "q"\n{Y}'), "forecast.pairs: input: expected one of x, n, got 'q'"),
        (BASE + feedback(f"{VALUE}\n" + 'output = "q"'), "forecast.pairs: output: expected one of y, z, k"),
        (BASE + feedback(f'input = "x"\ninput_feature = "q"\n{Y}'), "forecast.pairs: input_feature: expected one of value, season"),
        (BASE + feedback(f'{VALUE}\noutput = "y"'), "forecast.pairs: quantile_level of output 'y': expected one of"),
        (BASE + feedback(f'{VALUE}\noutput = "y"\nquantile_level = 0.4'), "forecast.pairs: quantile_level of output 'y'"),
        (BASE + feedback(f'{VALUE}\noutput = "z"\nquantile_level = 0.5'), "forecast.pairs: quantile_level of output 'z'"),
        (BASE.replace("[1, 4]", "[2, 4]") + feedback(f"{VALUE}\n{Y}"), "forecast.pairs: output 'y': expected 1 among its horizon_steps"),
        (BASE + feedback(f"{VALUE}\n{Y}", f"{VALUE}\n{Y}"), "forecast.pairs: an element of input 'x' is fed twice"),
        (BASE + feedback(f'{VALUE}\noutput = "z"'), "forecast.pairs: expected float32 [] for input 'x', got float32 [2]"),
        (BASE + feedback(f'{VALUE}\noutput = "k"'), "forecast.pairs: expected float32 [] for input 'x', got int64 []"),
        (BASE + feedback('input = "n"\ninput_feature = "a"\noutput = "k"'), "forecast.pairs: input 'n' of int64: expected all"),
        (BASE + feedback(f'{VALUE}\noutput = "z"\noutput_feature = "q"'), "forecast.pairs: output_feature: expected one of value, season"),
        (BASE + '[forecast]\nmode = "feedback"\npairs = []\n', "forecast.feedback.pairs"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused_by_name(text: str, problem: str) -> None:
    assert refusal(text).startswith(problem)
