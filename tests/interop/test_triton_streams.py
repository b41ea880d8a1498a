"""Streams by tritonclient, with many requests in flight, cancelled ones, and two streams on one sequence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from support.foreign import call
from support.sequences import Request, code, end, start, states, step, steps
from support.server import ServerProcess

NewId = Callable[[], int]

NUM_SEQUENCES = 100
REQUESTS_EACH = 6
LONG_STEPS = 20_000


def test_a_hundred_sequences_in_random_order_never_see_one_another(
    server: ServerProcess, new_id: NewId, rng: np.random.Generator
) -> None:
    ids = [new_id() for _ in range(NUM_SEQUENCES)]
    chunks = {
        i: [rng.normal(size=(1, int(rng.integers(1, 4)), 3)) for _ in range(REQUESTS_EACH)] for i in ids
    }
    alone = [{"model": "lstm", "x": np.concatenate(chunks[i], axis=1).tolist()} for i in ids]
    waiting = {i: _requests(i, chunks[i]) for i in ids}
    order = rng.permutation(np.repeat(ids, REQUESTS_EACH)).tolist()

    answers = call("triton_streams", "pipelined", server.address, requests=[waiting[i].pop(0) for i in order])

    expected = call("triton_calls", "calls", server.address, requests=alone)
    for i, whole in zip(ids, expected, strict=True):
        own = [a for a in answers if a.get("sequence_id") == i]
        assert [a["id"] for a in own] == [f"{i}/{k}" for k in range(REQUESTS_EACH)]
        assert [v for a in own for v in a["y"]] == whole["y"]


def _requests(sequence_id: int, chunks: list[np.ndarray]) -> list[Request]:
    last = len(chunks) - 1
    return [
        step(
            sequence_id,
            model="lstm",
            x=chunk.tolist(),
            request_id=f"{sequence_id}/{k}",
            sequence_start=k == 0,
            sequence_end=k == last,
        )
        for k, chunk in enumerate(chunks)
    ]


def test_requests_that_are_sent_without_waiting_keep_their_order(
    server: ServerProcess, new_id: NewId
) -> None:
    known = new_id()
    sent = [start(known), step(known), step(known), end(known), step(known)]

    answers = call("triton_streams", "pipelined", server.address, requests=sent)

    # A refusal may overtake answers.
    assert states([a for a in answers if "error" not in a]) == [1, 2, 3, 4]
    assert [code(a) for a in answers if "error" in a] == ["NOT_FOUND"]


def test_a_refusal_among_requests_in_flight_refuses_nothing_else(
    server: ServerProcess, new_id: NewId
) -> None:
    known = new_id()
    sent = [start(known), step(known, x=[[1.0] * 5]), step(known), step(new_id()), end(known)]

    answers = call("triton_streams", "pipelined", server.address, requests=sent)

    applied = [a for a in answers if "error" not in a]
    assert states(applied) == [1, 2, 3]
    assert sorted(code(a) for a in answers if "error" in a) == ["INVALID_ARGUMENT", "NOT_FOUND"]


def test_two_streams_on_one_sequence_are_served_in_the_order_of_arrival(
    server: ServerProcess, new_id: NewId
) -> None:
    known = new_id()
    sent = [start(known), step(known), step(known), end(known)]

    answers = call("triton_streams", "in_turns", server.address, requests=sent)

    assert states(answers) == [1, 2, 3, 4]


def test_two_streams_that_race_for_one_sequence_apply_each_step_once(
    server: ServerProcess, new_id: NewId
) -> None:
    known = new_id()
    call("triton_calls", "calls", server.address, requests=[start(known)])

    answers = call("triton_streams", "both_at_once", server.address, requests=[step(known)] * 4)

    assert all(len(of_stream) == 2 for of_stream in answers)
    assert sorted(steps([*answers[0], *answers[1]])) == [1, 2, 3, 4]
    assert sorted(states([*answers[0], *answers[1]])) == [2, 3, 4, 5]


@pytest.mark.parametrize("script", ["triton_calls", "triton_streams"])
def test_a_cancelled_request_is_applied_whole_or_not_at_all(
    server: ServerProcess, new_id: NewId, rng: np.random.Generator, script: str
) -> None:
    known = new_id()
    x = rng.normal(size=(1, LONG_STEPS + 2, 3))
    parts = [x[:, :1], x[:, 1 : 1 + LONG_STEPS], x[:, -1:]]
    before, given_up, after = (step(known, model="lstm", x=p.tolist()) for p in parts)

    answers = call(
        script,
        "cancelled",
        server.address,
        before={**before, "sequence_start": True},
        given_up=given_up,
        after=after,
    )

    assert code(answers[1]) == "CANCELLED"
    assert answers[2]["step"] in (1, 1 + LONG_STEPS)
    applied = x if answers[2]["step"] > 1 else np.concatenate([parts[0], parts[2]], axis=1)
    alone = {"model": "lstm", "x": applied.tolist()}
    expected = call("triton_calls", "calls", server.address, requests=[alone])[0]
    assert answers[2]["y"] == expected["y"][-16:]
