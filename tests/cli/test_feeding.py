"""What a run of `tidegate stream` says of the rows that an earlier one answered, against a foreign peer."""

from __future__ import annotations

import io

from support.peers import DurableOnAck
from support.quick_client import client_of
from tidegate.cli.answers import AnswerFile, AnswerLayout
from tidegate.cli.feeding import Feeder
from tidegate.cli.kept_answers import KeptAnswers
from tidegate.cli.replaying import send_again
from tidegate.cli.rows import row_reader

ROWS = ["x\n", "1\n", "2\n", "3\n"]


async def test_a_run_that_finds_all_rows_answered_waits_until_they_are_stored() -> None:
    """The one before may have been killed with its last line written and nothing acknowledged."""
    peer = DurableOnAck()
    peer.states["s"] = [0, 1, 3, 6]

    async with (
        peer,
        client_of(peer) as client,
        client.session("sum", "s", next_step=3, held_from=0, ack="explicit") as session,
    ):
        answers = AnswerFile(io.StringIO(), AnswerLayout(session.model.outputs, None), has_header=True)
        reader = row_reader(session.model, ROWS, source="rows")
        await send_again(reader, KeptAnswers(0, b"\1\1\1", 0), session)
        await Feeder(session, reader, answers, skips_bad_rows=False).feed(1)

        assert (peer.acks, session.durable_step) == ({"s": 3}, 3)
