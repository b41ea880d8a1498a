"""What sequences are called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import InvalidRequest, ModelNotFound
from tidegate.session.sequences.key import MAX_KEY_BYTES, MAX_MODEL_NAME_CHARS, RESERVED, SequenceKey

MIN_INT64, MAX_INT64 = -(2**63), 2**63 - 1

models = st.text("ab/", min_size=1, max_size=4).filter(lambda name: "/" not in name)
ids = st.one_of(st.integers(-3, 3).filter(bool), st.text("-013/ab", min_size=1, max_size=5))


@given(st.tuples(models, ids), st.tuples(models, ids))
def test_no_two_sequences_have_the_same_session(
    one: tuple[str, int | str], other: tuple[str, int | str]
) -> None:
    same = SequenceKey(*one).session_id == SequenceKey(*other).session_id

    assert same == (one == other)


@pytest.mark.parametrize("none", [0, ""])
def test_0_and_the_empty_text_name_no_sequence(none: int | str) -> None:
    with pytest.raises(InvalidRequest, match="sequence_id"):
        SequenceKey("m", none)


def test_a_text_is_measured_in_utf_8() -> None:
    SequenceKey("m", "é" * 64)

    with pytest.raises(InvalidRequest, match="expected at most 128 bytes of UTF-8, got 130"):
        SequenceKey("m", "é" * 65)


def test_a_name_that_no_model_can_have_is_refused() -> None:
    for name in ("a/b", "m" * (MAX_MODEL_NAME_CHARS + 1)):
        with pytest.raises(ModelNotFound):
            SequenceKey(name, 5)


@pytest.mark.parametrize("longest", [MIN_INT64, MAX_INT64, "x" * 128])
def test_every_key_is_reserved_and_fits(longest: int | str) -> None:
    session_id = SequenceKey("m" * MAX_MODEL_NAME_CHARS, longest).session_id

    assert session_id.startswith(RESERVED)
    assert len(session_id.encode()) <= MAX_KEY_BYTES
