"""What an output predicts is read from the manifest, and a layout that it does not explain is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tidegate.errors import InvalidRequest, Unsupported
from tidegate.evaluation.predicted import Predicted, predicted
from tidegate.model.manifest import Manifest

INPUT = {"name": "x", "dtype": "float32", "shape": ["batch", 2], "features": ["a", "b"]}


def manifest(*outputs: dict[str, Any], **keys: Any) -> Manifest:
    given = {
        "name": "m",
        "version": "1",
        "sha256": "0" * 64,
        "inputs": [INPUT],
        "outputs": [{"name": "y", "dtype": "float32", **output} for output in outputs],
    }
    return Manifest.model_validate(given | keys)


def feedback(**pair: Any) -> dict[str, Any]:
    return {"mode": "feedback", "pairs": [{"input": "x", "output": "y", **pair}]}


LAYOUTS = {
    "one target": ({"shape": ["batch", 3, 2], "features": ["a"]}, (1, 3, 2), (0.1, 0.9)),
    "several": ({"shape": ["batch", 2, 3, 2], "features": ["a", "b"]}, (2, 3, 2), (0.1, 0.9)),
    "points": ({"shape": ["batch", 3], "features": ["b"]}, (1, 3, 1), ()),
    "points of several": ({"shape": ["batch", 2, 3], "features": ["a", "b"]}, (2, 3, 1), ()),
}


@pytest.mark.parametrize(("output", "shape", "levels"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_layout_becomes_one(
    output: dict[str, Any], shape: tuple[int, ...], levels: tuple[float, ...]
) -> None:
    found = predicted(manifest({**output, "horizon_steps": [1, 2, 5], "quantile_levels": levels}))

    answers = np.arange(4 * np.prod(shape)).reshape(4, *output["shape"][1:])
    assert found.targets == tuple(output["features"])
    assert found.horizon_steps == (1, 2, 5)
    assert not found.is_rolled
    assert found.laid_out(answers).shape == (4, *shape)
    assert found.laid_out(answers).ravel().tolist() == answers.ravel().tolist()


@pytest.mark.parametrize(
    ("levels", "point"), [((0.1, 0.5, 0.9), 1), ((0.25, 0.5), 1), ((0.05, 0.4, 0.7), 1), ((), 0)]
)
def test_the_point_is_the_median_or_what_is_nearest(levels: tuple[float, ...], point: int) -> None:
    assert Predicted(0, ("a",), ("",), (1,), levels, is_rolled=False).point == point


def test_the_output_of_the_forecast_comes_before_the_first() -> None:
    outputs = (
        {"name": "score", "shape": ["batch", 1]},
        {"shape": ["batch", 2], "features": ["b"], "horizon_steps": [1, 2], "units": ["m"]},
    )

    found = predicted(manifest(*outputs))

    assert (found.position, found.targets, found.units) == (1, ("b",), ("m",))


def test_answers_that_are_fed_back_look_one_step_ahead() -> None:
    found = predicted(manifest({"shape": ["batch", 1]}, forecast=feedback(input_feature="b")))

    assert found.is_rolled
    assert (found.targets, found.horizon_steps) == (("b",), (1,))


def test_a_whole_input_that_is_fed_back_names_all_of_its_features() -> None:
    found = predicted(manifest({"shape": ["batch", 2]}, forecast=feedback()))

    assert found.targets == ("a", "b")


def test_an_answer_that_is_fed_back_and_looks_further_is_read_as_it_is() -> None:
    output = {"shape": ["batch", 4], "features": ["a"], "horizon_steps": [1, 2, 3, 4]}

    found = predicted(manifest(output, forecast=feedback(input_feature="a")))

    assert not found.is_rolled
    assert found.horizon_steps == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ({"shape": ["batch", 1]}, "no output has horizon_steps"),
        ({"shape": ["batch", 3], "horizon_steps": [1, 2, 3]}, "features: expected the names of the columns"),
        (
            {"shape": ["batch", 4, 3], "features": ["a"], "horizon_steps": [1, 2, 3]},
            r"for 1 features, 3 horizons and no quantiles, got float32 \[4, 3\]",
        ),
        (
            {"shape": ["batch", 3], "features": ["a"], "horizon_steps": [1, 2, 3], "dtype": "int64"},
            r"expected real numbers .* got int64 \[3\]",
        ),
        (
            {"shape": ["batch", 2], "features": ["a"], "horizon_steps": [2, 1]},
            r"horizon_steps: expected ascending ones, got \[2, 1\]",
        ),
        (
            {
                "shape": ["batch", 1, 2],
                "features": ["a"],
                "horizon_steps": [1],
                "quantile_levels": [0.9, 0.1],
            },
            r"quantile_levels: expected ascending ones, got \[0.9, 0.1\]",
        ),
    ],
)
def test_what_the_manifest_does_not_explain_is_refused(output: dict[str, Any], told: str) -> None:
    with pytest.raises(Unsupported, match=told):
        predicted(manifest(output))


def test_an_output_that_is_asked_for_must_exist_and_look_ahead() -> None:
    both = manifest(
        {"shape": ["batch", 2], "features": ["a"], "horizon_steps": [1, 2]},
        {"name": "score", "shape": ["batch", 1]},
    )

    with pytest.raises(InvalidRequest, match="output: expected one of y, score, got 'z'"):
        predicted(both, "z")
    with pytest.raises(Unsupported, match="'score' has no horizon_steps"):
        predicted(both, "score")
