"""A slot that goes to another sequence while the last answer of the one before is still on its way."""

from __future__ import annotations

import numpy as np
import pytest

from support.sequence_clients import SequenceClient
from support.session_bench import MAX_SESSIONS, Lives, SessionBench
from support.waiting import until
from tidegate.session import checkpointing

ONE, ANOTHER = "sequence/counter/int/1", "sequence/counter/int/100"


@pytest.fixture
async def bench(lives: Lives) -> SessionBench:
    """With a store that lasts."""
    return lives.begin()


@pytest.mark.parametrize("x", [1, 2], ids=["the same inputs", "other inputs"])
async def test_a_request_is_no_repeat_of_another_sequences(
    bench: SessionBench, monkeypatch: pytest.MonkeyPatch, x: int
) -> None:
    ids = range(1, MAX_SESSIONS + 1)
    client = SequenceClient(bench.manager)
    for sequence_id in ids:
        await client.step(sequence_id, 1, start=True)
    table, slot = bench.place(ONE)
    # Sequence 1 is stored long before the others, and all their answers leave together.
    monkeypatch.setattr(checkpointing, "PIECE_BYTES", 1)

    with bench.store_stalls():
        replies = [client.step(sequence_id, 1, request_id="a") for sequence_id in ids]
        await until(lambda: bool(table.books.is_writing(np.array([slot]))[0]))
        bench.grow_idle(ONE)
        another = client.step(100, x, start=True, request_id="a")
        await until(lambda: bench.is_held(ANOTHER))
    await until(lambda: ANOTHER in bench.in_memory())
    assert bench.place(ANOTHER).slot == slot
    assert not replies[0].has_come
    answer = await another.answer()

    assert (answer.first_step, answer.outputs[0][0, :, 0].tolist()) == (0, [x])
    assert [await reply for reply in replies] == [[2]] * MAX_SESSIONS
