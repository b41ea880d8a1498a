"""The rules of sequences."""

from __future__ import annotations

import pytest

from tidegate.errors import InvalidRequest, WrongStep
from tidegate.protocol.sequences import (
    ACTIONS,
    Action,
    Course,
    behind,
    check_step,
    is_repeat,
    lost,
    not_kept,
    unknown,
)

A, B = b"\1" * 8, b"\2" * 8


def test_every_request_has_an_action_whatever_is_known() -> None:
    assert set(ACTIONS) == {(course, starts) for course in Course for starts in (True, False)}


def test_whoever_begins_a_sequence_is_never_refused_for_what_was_before() -> None:
    assert {ACTIONS[course, True] for course in Course} == {Action.BEGIN, Action.BEGIN_ANEW}


def test_steps_go_on_only_where_the_sequence_is_known_to_stand() -> None:
    assert {course: ACTIONS[course, False] for course in Course} == {
        Course.NONE: Action.REFUSE_AS_UNKNOWN,
        Course.GOING: Action.GO_ON,
        Course.BEHIND: Action.GO_ON_IF_SURE,
        Course.LOST: Action.REFUSE_AS_LOST,
    }


def test_a_step_that_is_given_must_be_the_next_one() -> None:
    check_step(None, 7)
    check_step(7, 7)
    for wrong in (6, 8, -1):
        with pytest.raises(WrongStep, match=f"step: expected 7, got {wrong}") as caught:
            check_step(wrong, 7)
        assert caught.value.facts == {"expected_step": 7}


@pytest.mark.parametrize(
    ("request_id", "last_id", "expected"),
    [("", "", False), ("", "a", False), ("a", "", False), ("a", "a", True)],
)
def test_a_repeat_is_told_by_its_id(request_id: str, last_id: str, expected: bool) -> None:
    assert is_repeat(request_id, A, last_id, A) is expected


def test_an_id_with_other_inputs_is_a_mistake() -> None:
    with pytest.raises(InvalidRequest, match="'a' repeated with other inputs"):
        is_repeat("a", A, "a", B)
    assert not is_repeat("a", A, "b", B)


def test_refusals_say_what_to_do() -> None:
    assert "begin it with sequence_start" in str(unknown("sequence 5"))
    assert lost("sequence 5", 7, 4, "expired").facts == {"next_step": 7, "durable_step": 4}
    assert "go on with step=4" in str(behind("sequence 5", 4, ""))
    assert "its record is torn" in str(behind("sequence 5", 4, "its record is torn"))
    assert not_kept(3, 1).facts == {"expected_step": 4}
    assert "as steps 3 to 5" in str(not_kept(3, 3))
