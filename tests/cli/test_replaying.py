"""Which steps an output file stands for, and which of them are sent again, against a foreign peer."""

from __future__ import annotations

import pytest

from support.peers import DurableOnAck
from support.quick_client import client_of
from support.row_files import reader
from tidegate.cli.kept_answers import KeptAnswers
from tidegate.cli.replaying import MAX_CALL_STEPS, count_steps, send_again
from tidegate.errors import ConfigError
from tidegate.model.manifest import InputSpec, TimeRules
from tidegate.model.rows import RowReader
from tidegate.tensor import DType

X = InputSpec(name="x", dtype=DType.FLOAT32, shape=("batch", "time"))
GAPS_REPEAT = TimeRules(column="t", cadence_s=86400, missing="repeat-last", max_gap_steps=3)
DAYS = (1, 4, 5, 7, 8)
VALUES = [1, 1, 1, 4, 5, 5, 7]
"""What the first four rows are: 1, 3, 1 and 2 steps."""


def two_gaps() -> RowReader:
    return reader("t,x\n" + "".join(f"2024-01-0{day},{day}\n" for day in DAYS), [X], GAPS_REPEAT)


def sums(values: list[int]) -> list[float]:
    """The states of a session that was fed so, from the first on."""
    return [float(sum(values[:k])) for k in range(len(values) + 1)]


def test_rows_are_as_many_steps_as_the_rules_make_of_them() -> None:
    rows = two_gaps()

    assert count_steps(rows, KeptAnswers(0, b"\1\1\1\1", first_step=10)) == 17
    assert next(rows).values[0] == 8


def test_a_row_that_the_server_had_refused_was_no_step() -> None:
    assert count_steps(two_gaps(), KeptAnswers(0, b"\1\0\1", first_step=0)) == 2


@pytest.mark.parametrize("stored", range(8))
async def test_the_server_is_sent_what_it_lacks_from_the_middle_of_a_row_too(stored: int) -> None:
    peer = DurableOnAck()
    peer.states["s"] = sums(VALUES[:stored])
    rows, kept = two_gaps(), KeptAnswers(0, b"\1\1\1\1", 0)

    async with (
        peer,
        client_of(peer) as client,
        client.session("sum", "s", next_step=7, held_from=0, ack="explicit") as session,
    ):
        assert session.next_step == stored
        await send_again(rows, kept, session)

        assert session.next_step == 7

    assert peer.states["s"] == sums(VALUES)
    assert next(rows).values[0] == 8


async def test_many_rows_are_sent_in_calls_of_many_steps() -> None:
    peer = DurableOnAck()
    peer.states["s"] = [0.0]
    num_rows = 2 * MAX_CALL_STEPS + 1

    async with (
        peer,
        client_of(peer) as client,
        client.session("sum", "s", next_step=num_rows, held_from=0, ack="explicit") as session,
    ):
        rows = reader("x\n" + "1\n" * num_rows, [X])
        await send_again(rows, KeptAnswers(0, b"\1" * num_rows, 0), session)

    assert peer.states["s"][-1] == num_rows
    # The peer takes frames of 1000 steps, so a call is two of them.
    assert [frame.num_steps for _, frame in peer.frames] == [1000, MAX_CALL_STEPS - 1000] * 2 + [1]


async def test_a_session_that_stands_elsewhere_is_not_gone_on_with() -> None:
    peer = DurableOnAck()
    peer.states["s"] = sums(VALUES)

    async with peer, client_of(peer) as client, client.session("sum", "s", ack="explicit") as session:
        with pytest.raises(ConfigError, match=r"expected a session at step 4, .* got one at 7"):
            await send_again(two_gaps(), KeptAnswers(0, b"\1\1", 0), session)
