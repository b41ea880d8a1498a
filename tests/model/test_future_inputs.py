"""What coming steps are fed with: given, fed back, or asked for."""

from __future__ import annotations

import numpy as np
import pytest

from tidegate.errors import InvalidRequest
from tidegate.model.forecast import FeedbackPair, FeedbackRules
from tidegate.model.future_inputs import FutureInputs, future_inputs
from tidegate.model.manifest import InputSpec, Manifest, OutputSpec, StatePair
from tidegate.tensor import Array, DType

F32 = DType.FLOAT32
MANIFEST = Manifest(
    name="m",
    version="1",
    sha256="0" * 64,
    inputs=(
        InputSpec(name="x", dtype=F32, shape=("batch", 2), features=("value", "season")),
        InputSpec(name="plan", dtype=F32, shape=("batch", 3), accepts_missing=True),
        InputSpec(name="token", dtype=DType.INT64, shape=("batch",), features=("word",)),
    ),
    outputs=(
        OutputSpec(name="y", dtype=F32, shape=("batch",), carried_as="y_last"),
        OutputSpec(name="next", dtype=DType.INT64, shape=("batch",)),
    ),
    states=(StatePair(input_name="y_last", output_name="y_next", dtype=F32, shape=("batch",)),),
    forecast=FeedbackRules(
        mode="feedback",
        pairs=(
            FeedbackPair(input="x", input_feature="value", output="y"),
            FeedbackPair(input="token", output="next"),
        ),
    ),
)
NAN = np.nan


def laid_out(num_steps: int, *, has_answered: bool = True, **future: object) -> FutureInputs:
    assert isinstance(MANIFEST.forecast, FeedbackRules)
    dtypes = {i.name: i.dtype.numpy for i in MANIFEST.inputs}
    arrays: dict[str, Array] = {name: np.array(values, dtypes[name]) for name, values in future.items()}
    return future_inputs(MANIFEST, MANIFEST.forecast, arrays, num_steps, has_answered=has_answered)


def refusal(num_steps: int, *, has_answered: bool = True, **future: object) -> str:
    with pytest.raises(InvalidRequest) as caught:
        laid_out(num_steps, has_answered=has_answered, **future)
    return str(caught.value).removeprefix("future_inputs: ")


def test_only_what_is_fed_back_may_be_left_out() -> None:
    future = laid_out(2, x=[[NAN, 5], [7, 6]], plan=[[1, 2, 3]] * 2, token=[4])

    assert [g.tolist() for g in future.given] == [
        [[False, True], [True, True]],
        [[True] * 3] * 2,
        [True, False],
    ]
    assert future.values[0][:, 1].tolist() == [5, 6]
    assert future.values[2].tolist() == [4, 0]


def test_everything_that_is_missing_is_asked_for_at_once() -> None:
    assert refusal(4) == ("expected also 'x' feature 'season' [4]; 'plan' [4, 3]; 'token' [1]")


def test_before_the_first_step_no_answer_is_carried() -> None:
    given = {"plan": [[0, 0, 0]] * 4, "token": [1]}

    assert (
        refusal(4, has_answered=False, x=[[NAN, 0]] * 4, **given) == "expected also 'x' feature 'value' [1]"
    )
    laid_out(4, has_answered=False, x=[[1, 0], *[[NAN, 0]] * 3], **given)


def test_what_is_given_for_some_steps_only_is_asked_for_in_full() -> None:
    assert (
        refusal(4, x=[[NAN, 0]] * 2, plan=[[0, 0, 0]] * 4, token=[1])
        == "expected also 'x' feature 'season' [4]"
    )


def test_an_input_that_accepts_missing_values_takes_them_as_given() -> None:
    future = laid_out(1, x=[[NAN, 0]], plan=[[NAN, 0, 0]], token=[1])

    assert future.given[1].all()


@pytest.mark.parametrize(
    ("future", "problem"),
    [
        ({"x": [[NAN, np.inf]]}, "'x'[0, 1]: expected a finite value, got inf"),
        ({"x": [[np.inf, 0]]}, "'x'[0, 0]: expected a finite value, got inf"),
        ({"x": [[NAN, NAN]]}, "'x'[0, 1]: expected a finite value, got nan"),
        ({"x": [[NAN, 0]] * 3}, "'x': expected at most 2 steps, got 3"),
        ({"x": [[NAN, 0]] * 2, "plan": [[np.inf, 0, 0]]}, "'plan'[0, 0]: expected a finite value, got inf"),
    ],
)
def test_given_values_must_be_usable(future: dict[str, object], problem: str) -> None:
    assert refusal(2, **future) == problem
