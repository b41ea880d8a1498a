"""What a package says of time reaches the client as it is."""

from __future__ import annotations

from typing import get_args

import pytest

from tidegate.client.time_rules import read_time_rules
from tidegate.errors import InternalError
from tidegate.model.calendar_features import CalendarCycle
from tidegate.model.time_rules import MissingValues, OutOfOrder, TimeRules
from tidegate.rpc.time_rules import write_time_rules
from tidegate.v1 import model_pb2 as pb


@pytest.mark.parametrize("missing", get_args(MissingValues))
@pytest.mark.parametrize("out_of_order", get_args(OutOfOrder))
def test_rules_survive_the_wire(missing: MissingValues, out_of_order: OutOfOrder) -> None:
    rules = TimeRules(
        column="t",
        cadence_s=0.25,
        missing=missing,
        max_gap_steps=0 if missing == "refuse" else 7,
        out_of_order=out_of_order,
        calendar=get_args(CalendarCycle),
        time_zone="Europe/Vienna",
    )
    message = pb.Model()

    write_time_rules(message, rules)

    assert read_time_rules(pb.Model.FromString(message.SerializeToString())) == rules


def test_a_server_that_says_nothing_of_time_has_no_rules() -> None:
    assert read_time_rules(pb.Model()) == TimeRules()


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (pb.Model(missing_values=99), "missing_values: expected one this release knows, got 99"),
        (pb.Model(out_of_order=99), "out_of_order: expected one this release knows, got 99"),
        (pb.Model(calendar=[1, 99], time_column="t"), "calendar: expected one this release knows, got 99"),
        (pb.Model(max_gap_steps=5), "rules about time: max_gap_steps: needs a column"),
        (pb.Model(time_zone="Mars/Olympus"), "rules about time: time_zone: expected the IANA name"),
    ],
)
def test_rules_that_the_client_cannot_keep_are_not_passed_over(message: pb.Model, problem: str) -> None:
    with pytest.raises(InternalError, match=problem):
        read_time_rules(message)
