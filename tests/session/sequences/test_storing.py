"""What is stored of sequences, when, and with what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.odd_models import counter_package
from support.session_bench import Lives, SessionBench
from support.session_clients import StreamClient
from tidegate.session import checkpointing
from tidegate.session.sequences.kept import KeptAnswer


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("models")
    counter_package(repository)
    return repository


class Requests:
    """The requests of a sequence, as the door makes them: it tells where each one ended."""

    def __init__(self, bench: SessionBench, client: StreamClient, handle: int, session_id: str) -> None:
        self._client = client
        self._handle = handle
        self._table, self._slot = bench.place(session_id)
        self._step = 0

    async def run(self, num_steps: int, request_id: str = "", *, settle: bool = True) -> KeptAnswer | None:
        """Run the next request; without `settle` its end is not told."""
        first, self._step = self._step, self._step + num_steps
        values = await self._client.steps(self._handle, first, [1.0] * num_steps)
        columns, kept = self._table.sequences, None
        if settle:
            if request_id:
                outputs = [np.array(values, np.float32).reshape(1, num_steps, 1)]
                kept = KeptAnswer.of(request_id, bytes(8), first, outputs)
            columns.keep(self._slot, kept)
            columns.settled[self._slot] = self._step
        return kept


async def begin(
    bench: SessionBench, client: StreamClient, *session_ids: str, runs_ahead: bool = False
) -> list[Requests]:
    handles = (await client.open(*session_ids)).handles
    for session_id in session_ids:
        table, slot = bench.place(session_id)
        table.sequences.begin(np.array([slot], np.int32), 0, runs_ahead=runs_ahead)
        if runs_ahead and table.is_stored[slot]:
            number = int(table.number[slot])
            await bench.manager.keeper.write(lambda store, number=number: store.mark_ahead([number]))
    pairs = zip(handles, session_ids, strict=True)
    return [Requests(bench, client, handle, session_id) for handle, session_id in pairs]


async def answer_of(bench: SessionBench, session_id: str) -> KeptAnswer | None:
    """What the store keeps of the last request."""
    stored = await bench.stored(session_id)
    assert stored is not None
    (packed,) = await bench.manager.keeper.read(
        lambda store: store.read_answers([(stored.number, session_id)], stored.model)
    )
    return None if packed is None else KeptAnswer.unpack(packed)


async def may_have_lost_steps(bench: SessionBench, session_id: str) -> bool:
    stored = await bench.stored(session_id)
    assert stored is not None
    return stored.may_have_lost_steps


async def test_a_state_is_stored_with_the_answer_that_led_to_it_and_is_base_at_once(
    bench: SessionBench,
) -> None:
    (requests,) = await begin(bench, bench.client(), "a")
    for number in (1, 2, 3):
        kept = await requests.run(2, f"request {number}")

        await bench.checkpoint()

        table, slot = bench.place("a")
        assert table.books.base_step[slot] == 2 * number
        assert await answer_of(bench, "a") == kept


async def test_a_request_without_an_id_leaves_no_answer(bench: SessionBench) -> None:
    (requests,) = await begin(bench, bench.client(), "a")
    await requests.run(1, "the first")
    await bench.checkpoint()
    await requests.run(1)

    await bench.checkpoint()

    assert await answer_of(bench, "a") is None
    assert (await bench.stored("a")).next_step == 2  # type: ignore[union-attr]


async def test_an_answer_to_an_earlier_request_is_not_stored_with_a_later_state(bench: SessionBench) -> None:
    (requests,) = await begin(bench, bench.client(), "a")
    await requests.run(1, "the first")
    await requests.run(1, settle=False)
    table, slot = bench.place("a")
    table.sequences.settled[slot] = 2  # and nobody has taken the answer away

    await bench.checkpoint()

    assert await answer_of(bench, "a") is None


async def test_nothing_is_stored_in_the_middle_of_a_request(bench: SessionBench) -> None:
    client = bench.client()
    requests, others = await begin(bench, client, "a", "b")
    await requests.run(2, "whole")
    await bench.checkpoint()
    await requests.run(3, settle=False)
    await others.run(1)

    await bench.checkpoint()

    found = [await bench.stored(i) for i in ("a", "b")]
    assert [s.next_step for s in found if s] == [2, 1]
    kept = await answer_of(bench, "a")
    assert kept is not None
    assert kept.request_id == "whole"
    assert bench.manager.checkpointer.num_dirty() == 1


async def test_other_sessions_are_stored_as_ever(bench: SessionBench) -> None:
    client = bench.client()
    await begin(bench, client, "sequence")
    (handle,) = (await client.open("session")).handles
    await client.steps(handle, 0, [1, 1, 1])

    await bench.checkpoint()

    table, slot = bench.place("session")
    assert (table.books.base_step[slot], table.books.head_step[slot]) == (0, 3)


async def test_a_slot_forgets_the_sequence_that_had_it(bench: SessionBench) -> None:
    client = bench.client()
    (requests,) = await begin(bench, client, "a", runs_ahead=True)
    await requests.run(1, "the last")
    table, slot = bench.place("a")

    await client.close(1, end=True)

    columns = table.sequences
    assert columns.answer(slot) is None
    assert not any(
        c[slot] for c in (columns.is_sequence, columns.settled, columns.runs_ahead, columns.answer_bytes)
    )


async def test_many_answers_go_in_pieces(bench: SessionBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointing, "PIECE_BYTES", 10_000)
    client = bench.client()
    ids = [f"s{i}" for i in range(6)]
    all_requests = await begin(bench, client, *ids)
    kept = [await requests.run(1, f"request {i}") for i, requests in enumerate(all_requests)]

    table, _ = bench.place("s0")
    slots = np.array([bench.place(i).slot for i in ids], np.int32)
    pieces = checkpointing._pieces(table, slots)
    await bench.checkpoint()

    assert [len(piece) for piece, _ in pieces] == [3, 2, 1]
    assert [await answer_of(bench, i) for i in ids] == kept


async def test_what_leaves_memory_is_not_taken_for_ahead(bench: SessionBench) -> None:
    client = bench.client()
    (requests,) = await begin(bench, client, "a", runs_ahead=True)
    kept = await requests.run(2, "the last")
    assert await may_have_lost_steps(bench, "a")
    await client.close(1)

    await bench.passivate("a")

    assert not await may_have_lost_steps(bench, "a")
    assert await answer_of(bench, "a") == kept


async def test_what_the_store_takes_for_ahead_stays_in_memory(lives: Lives) -> None:
    bench = lives.begin()
    client = bench.client()
    (requests,) = await begin(bench, client, "a", runs_ahead=True)
    (plain,) = await begin(bench, client, "b")
    await requests.run(1)
    await plain.run(1)
    await bench.checkpoint()
    await client.close(1, 2)
    bench.grow_idle("a", "b")

    with bench.store_refuses():
        await bench.manager.tidy()

    assert bench.in_memory() == {"a"}


async def test_a_stop_that_stored_everything_leaves_no_mark(lives: Lives) -> None:
    bench = lives.begin()
    (requests,) = await begin(bench, bench.client(), "a", runs_ahead=True)
    kept = await requests.run(2, "the last")

    assert await bench.manager.save_all() == 0

    bench = lives.begin()
    assert not await may_have_lost_steps(bench, "a")
    assert await answer_of(bench, "a") == kept


async def test_a_crash_leaves_the_mark_even_if_everything_was_stored(lives: Lives) -> None:
    bench = lives.begin()
    (requests,) = await begin(bench, bench.client(), "a", runs_ahead=True)
    await requests.run(2)
    await bench.checkpoint()

    bench = lives.begin()

    assert await may_have_lost_steps(bench, "a")


async def test_a_stop_in_the_middle_of_a_request_leaves_the_mark(lives: Lives) -> None:
    bench = lives.begin()
    (requests,) = await begin(bench, bench.client(), "a", runs_ahead=True)
    await requests.run(2)
    await bench.checkpoint()
    await requests.run(1, settle=False)

    assert await bench.manager.save_all() == 1

    bench = lives.begin()
    assert await may_have_lost_steps(bench, "a")
    assert (await bench.stored("a")).next_step == 2  # type: ignore[union-attr]


async def test_a_sequence_that_began_while_the_store_failed_gets_its_mark_with_its_record(
    lives: Lives,
) -> None:
    bench = lives.begin()
    client = bench.client()
    with bench.store_refuses():
        (requests,) = await begin(bench, client, "a", runs_ahead=True)
        await requests.run(1)
    assert await bench.stored("a") is None

    await bench.checkpoint()

    assert await may_have_lost_steps(bench, "a")
    stored = await bench.stored("a")
    assert stored is not None
    assert stored.next_step == 1
