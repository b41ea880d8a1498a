"""What is remembered of the forms of messages."""

from __future__ import annotations

from tidegate.rpc.open_inference.layouts import MAX_KNOWN, Known


def test_a_new_form_takes_the_place_of_the_oldest() -> None:
    known = Known[int, str]()
    for form in range(MAX_KNOWN + 1):
        known.remember(form, str(form))

    assert known.get(0) is None
    assert [known.get(form) for form in range(1, MAX_KNOWN + 1)] == [str(n) for n in range(1, MAX_KNOWN + 1)]
