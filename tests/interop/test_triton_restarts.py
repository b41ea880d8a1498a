"""A sequence that tritonclient began, and a server that dies in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from support.foreign import call
from support.sequences import Answer, Request, code, start, states, step, steps
from support.server import ServerProcess

CUT = 7
NUM_STEPS = 20
INPUTS = np.random.default_rng(5).normal(size=(NUM_STEPS, 3)).tolist()
SCRIPTS = ("triton_calls.calls", "triton_streams.pipelined")
BACKGROUND = {"TIDEGATE_SEQUENCE_DURABILITY": "background"}
NEVER = "3600"
"""Seconds between checkpoints, so that what is answered is not stored before the crash."""


def infer(server: ServerProcess, *requests: Request, script: str = "triton_calls.calls") -> list[Answer]:
    answers: list[Answer] = call(*script.split("."), server.address, requests=requests)
    return answers


class Crash(NamedTuple):
    """What was answered before the server was killed, and the server that was started in its place."""

    answers: dict[str, list[Answer]]
    server: ServerProcess


@pytest.fixture(scope="module")
def crash(interop_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crash]:
    """One crash for all, each with sequences of its own."""
    folder = tmp_path_factory.mktemp("crash")
    with ServerProcess(interop_models, folder) as server:
        answers = {script: infer(server, *rows(script)[:CUT], script=script) for script in SCRIPTS}
        answers["repeat"] = infer(server, start("repeat"), step("repeat", request_id="b"))
        server.kill()
    with ServerProcess(interop_models, folder) as server:
        yield Crash(answers, server)


def rows(sequence_id: str) -> list[Request]:
    """A sequence, step by step."""
    return [step(sequence_id, model="lstm", x=[x], sequence_start=k == 0) for k, x in enumerate(INPUTS)]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_sequence_goes_on_bit_identically_after_kill_9(crash: Crash, script: str) -> None:
    after = infer(crash.server, *rows(script)[CUT:], script=script)

    answers = crash.answers[script] + after
    (alone,) = infer(crash.server, {"model": "lstm", "x": [INPUTS]})
    assert steps(answers) == list(range(NUM_STEPS))
    assert [v for a in answers for v in a["y"]] == alone["y"]


def test_the_last_request_sent_again_after_kill_9_is_answered_again_and_applied_once(crash: Crash) -> None:
    again = infer(crash.server, step("repeat", request_id="b"), step("repeat", request_id="c"))

    assert again[0] == crash.answers["repeat"][1]
    assert states(again) == [2, 3]


def test_with_background_durability_a_cut_sequence_is_refused_with_its_last_step(
    interop_models: Path, tmp_path: Path
) -> None:
    with ServerProcess(interop_models, tmp_path, "--checkpoint-age-s", NEVER, **BACKGROUND) as server:
        before = infer(server, start("lost"), step("lost"), start("known place"), step("known place"))
        server.kill()
    with ServerProcess(interop_models, tmp_path, **BACKGROUND) as server:
        refused, anew, on = infer(server, step("lost"), start("lost"), step("lost"))
        place = infer(server, step("known place", parameters={"step": 0}), step("known place"))

    assert states(before) == [1, 2, 1, 2]
    assert code(refused) == "DATA_LOSS"
    assert "step 0" in refused["error"]
    assert states([anew, on]) == [1, 2]
    assert states(place) == [1, 2]


def test_with_background_durability_a_graceful_stop_loses_nothing(
    interop_models: Path, tmp_path: Path
) -> None:
    with ServerProcess(interop_models, tmp_path, "--checkpoint-age-s", NEVER, **BACKGROUND) as server:
        before = infer(server, start("kept"), step("kept"))
        server.stop()
    with ServerProcess(interop_models, tmp_path, **BACKGROUND) as server:
        after = infer(server, step("kept"))

    assert states(before + after) == [1, 2, 3]
