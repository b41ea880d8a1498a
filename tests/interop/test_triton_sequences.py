"""Sequences by tritonclient: one step after the other, on calls and on streams, blocking and with asyncio."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from support.foreign import call
from support.metrics import value
from support.sequences import ONES, Answer, Request, code, end, start, states, step, steps
from support.server import ServerProcess

Door = Callable[[list[Request]], list[Answer]]
NewId = Callable[[], int]

BLOCKING = [("triton_calls", "calls"), ("triton_streams", "one_by_one")]
LONG_STEPS = 20_000
"""Of a request that is given up long before it can be answered."""

ASYNCIO = [("triton_aio", "calls"), ("triton_aio", "stream")]


def doors(*ways: tuple[str, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("door", ways, indirect=True, ids="-".join)


@pytest.fixture
def door(server: ServerProcess, request: pytest.FixtureRequest) -> Door:
    """Sends requests one by one, in the way that the test's parameter names."""
    script, scenario = request.param
    return lambda requests: call(script, scenario, server.address, requests=requests)


@doors(*BLOCKING, *ASYNCIO)
def test_a_sequence_has_its_state_from_start_to_end(door: Door, new_id: NewId) -> None:
    a, b = new_id(), new_id()

    answers = door([start(a), step(a), start(b), step(a, priority=1), end(b), end(a), step(a)])

    assert states(answers) == [1, 2, 1, 3, 2, 4, "NOT_FOUND"]
    assert steps(answers) == [0, 1, 0, 2, 1, 3, "NOT_FOUND"]
    assert [a["sequence_id"] for a in answers[:6]] == [a, a, b, a, b, a]


@doors(*BLOCKING, *ASYNCIO)
def test_the_same_id_as_number_as_text_and_of_another_model_are_three(door: Door, new_id: NewId) -> None:
    number = new_id()
    text = str(number)

    answers = door(
        [
            *(start(number), start(text), start(number, model="twin")),
            *(step(number), step(number), step(text), step(number, model="twin")),
            *(end(number), step(text), step(number, model="twin"), step(number)),
        ]
    )

    assert states(answers) == [1, 1, 1, 2, 3, 2, 2, 4, 3, 3, "NOT_FOUND"]
    assert answers[5]["sequence_id"] == text


@doors(*BLOCKING, *ASYNCIO)
def test_a_refusal_leaves_the_connection_and_the_sequences_as_they_were(door: Door, new_id: NewId) -> None:
    known, unknown = new_id(), new_id()

    answers = door(
        [
            start(known),
            step(unknown),
            step(known, x=[[1.0] * 5]),
            step(known, model="no-such-model"),
            step(known, x=[[float("nan")] * 4]),
            step(known),
        ]
    )

    assert states(answers) == [1, "NOT_FOUND", "INVALID_ARGUMENT", "NOT_FOUND", "INVALID_ARGUMENT", 2]
    assert str(unknown) in answers[1]["error"]


@doors(*BLOCKING)
def test_a_start_on_a_live_id_begins_anew_and_is_told_of(
    door: Door, server: ServerProcess, new_id: NewId
) -> None:
    known = new_id()
    restarts = "tidegate_sequence_restarts_total"
    before = value(server, restarts, model="decay")

    answers = door([start(known), step(known), start(known), step(known)])

    assert states(answers) == [1, 2, 1, 2]
    assert steps(answers) == [0, 1, 0, 1]
    assert value(server, restarts, model="decay") == before + 1
    assert f"{known}" in server.log()


@doors(*BLOCKING)
def test_a_request_may_say_which_step_it_is(door: Door, new_id: NewId) -> None:
    known = new_id()

    answers = door(
        [
            start(known, parameters={"step": 0}),
            step(known, parameters={"step": 2}),
            step(known, parameters={"step": 0}),
            step(known, parameters={"step": 1}),
        ]
    )

    assert states(answers) == [1, "FAILED_PRECONDITION", "FAILED_PRECONDITION", 2]
    assert "1" in answers[1]["error"]


@doors(*BLOCKING)
def test_a_request_that_is_sent_again_is_answered_again_and_applied_once(door: Door, new_id: NewId) -> None:
    known = new_id()
    twos = [[2.0] * 4]

    answers = door(
        [
            *(start(known, request_id="a"), start(known, request_id="a")),
            *(step(known, request_id="b"), step(known, request_id="b")),
            *(step(known, request_id="b", x=twos), step(known, request_id="c")),
            *(end(known, request_id="d"), end(known, request_id="d")),
        ]
    )

    assert states(answers) == [1, 1, 2, 2, "INVALID_ARGUMENT", 3, 4, 4]
    assert [a["id"] for a in answers if "error" not in a] == ["a", "a", "b", "b", "c", "d", "d"]


@doors(*BLOCKING)
def test_several_steps_in_one_request_are_as_good_as_one_by_one(door: Door, new_id: NewId) -> None:
    known = new_id()

    answers = door([start(known, x=[ONES * 2]), step(known), step(known, x=[ONES * 2]), end(known, x=[ONES])])

    assert [a["shape"] for a in answers] == [[1, 2, 4], [1, 4], [1, 2, 4], [1, 1, 4]]
    assert steps(answers) == [0, 2, 3, 5]
    assert answers[2]["y"] == [1.875] * 4 + [1.9375] * 4


@doors(*BLOCKING)
def test_a_sequence_of_one_request_leaves_nothing_behind(door: Door, new_id: NewId) -> None:
    known = new_id()

    answers = door([start(known, sequence_end=True), step(known), start(known, sequence_end=True)])

    assert states(answers) == [1, "NOT_FOUND", 1]


@doors(*BLOCKING)
def test_a_request_whose_time_is_over_is_refused_and_not_applied(door: Door, new_id: NewId) -> None:
    known = new_id()

    answers = door([start(known), step(known, timeout=1), step(known, timeout=60_000_000)])

    assert states(answers) == [1, "DEADLINE_EXCEEDED", 2]


def test_a_client_that_stops_waiting_can_find_out_where_its_sequence_stands(
    server: ServerProcess, new_id: NewId
) -> None:
    known = new_id()
    hurried = step(known, x=[ONES * LONG_STEPS], client_timeout=0.001)

    answers = call("triton_calls", "calls", server.address, requests=[start(known), hurried, step(known)])

    assert code(answers[1]) == "DEADLINE_EXCEEDED"
    # Whether the second request arrived is up to the network; the third tells.
    assert (answers[2]["step"], answers[2]["y"]) in [(1, [1.5] * 4), (1 + LONG_STEPS, [2.0] * 4)]


@doors(*BLOCKING)
def test_a_window_is_as_good_as_its_steps_in_a_sequence(
    door: Door, new_id: NewId, rng: np.random.Generator
) -> None:
    known = new_id()
    x = rng.normal(size=(10, 3)).tolist()
    one_by_one = [step(known, model="lstm", x=[row], sequence_start=k == 0) for k, row in enumerate(x)]

    window, *each = door([{"model": "lstm", "x": [x]}, *one_by_one])

    assert window["y"] == [v for answer in each for v in answer["y"]]


@doors(*BLOCKING)
def test_two_states_whose_names_sort_differently_keep_to_themselves(door: Door, new_id: NewId) -> None:
    known = new_id()
    row, zero = [[1.0, 10.0]], [[0.0, 0.0]]
    rest = [step(known, model="unsorted", x=x) for x in (row, zero, zero)]

    answers = door([start(known, model="unsorted", x=row), *rest])

    # The sum of all x so far, then the x before: with the states swapped, each would be in the other's place.
    assert [a["y"] for a in answers] == [[1, 10, 0, 0], [2, 20, 1, 10], [2, 20, 1, 10], [2, 20, 0, 0]]
