"""Rules that hold for every error."""

import re

import grpc
import pytest

from tidegate import errors
from tidegate.errors import TidegateError
from tidegate.v1.error_pb2 import Error

CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, TidegateError)]
GROUPS = [c for c in CLASSES if any(c in d.__bases__ for d in CLASSES)]
"""Classes to catch; what is raised is one of the others."""

RAISED = [c for c in CLASSES if c not in GROUPS]


def test_every_error_has_a_canonical_code() -> None:
    canonical = {code.name for code in grpc.StatusCode}

    assert [c.__name__ for c in CLASSES if c.code not in canonical] == []
    assert [c.__name__ for c in RAISED if c.code in ("OK", "UNKNOWN")] == []


def test_no_two_errors_share_a_reason() -> None:
    reasons = [c.reason for c in RAISED]

    assert sorted(reasons) == sorted(set(reasons))
    assert [r for r in reasons if not re.fullmatch(r"[A-Z]+(_[A-Z]+)*", r)] == []


def test_the_tree_of_the_docstring_is_the_tree_of_the_classes() -> None:
    assert errors.__doc__ is not None
    lines = re.findall(r"^ *[*+-] (\w+)(?: +([A-Z_]+) +\S)?", errors.__doc__, re.MULTILINE)

    assert dict(lines) == {c.__name__: c.code if c in RAISED else "" for c in CLASSES}


def test_the_tree_of_the_docstring_has_each_error_under_its_parent() -> None:
    parents: dict[str, str] = {}
    open_at: dict[int, str] = {}
    for indent, name in re.findall(r"^( *)[*+-] (\w+)", errors.__doc__ or "", re.MULTILINE):
        open_at[len(indent)] = name
        parents[name] = open_at.get(len(indent) - 2, "Exception")

    assert parents == {c.__name__: c.__base__.__name__ for c in CLASSES if c.__base__}


@pytest.mark.parametrize("error", RAISED, ids=lambda c: c.__name__)
def test_an_error_has_its_message_as_text(error: type[TidegateError]) -> None:
    assert str(made(error)) == "num_steps: expected 1, got 0"


@pytest.mark.parametrize("error", RAISED, ids=lambda c: c.__name__)
def test_every_fact_has_a_field_on_the_wire_and_is_an_attribute(error: type[TidegateError]) -> None:
    raised = made(error)

    assert set(raised.facts) <= set(Error.DESCRIPTOR.fields_by_name)
    assert raised.facts == {name: getattr(raised, name) for name in raised.facts}


def made(error: type[TidegateError]) -> TidegateError:
    if error is errors.WrongStep:
        return errors.WrongStep("num_steps: expected 1, got 0", expected_step=1)
    return error("num_steps: expected 1, got 0")
