"""A page of the store that takes nothing costs the sessions on it their checkpoints, and no others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from support.session_bench import LIMITS, Lives, SessionBench
from support.session_clients import StreamClient
from support.waiting import until
from tidegate.errors import StoreUnavailable
from tidegate.session import checkpointing


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every session is written alone."""
    monkeypatch.setattr(checkpointing, "PIECE_BYTES", 1)
    monkeypatch.setattr(checkpointing, "RETRY_S", 0.01)


async def stepped(bench: SessionBench) -> tuple[StreamClient, list[int]]:
    """Two sessions of one client with a step each; the store refuses the states of the first, `bad`."""
    client = bench.client()
    handles = (await client.open("bad", "good")).handles
    for handle in handles:
        await client.steps(handle, 0, [1])
    client.ack(handles, [1, 1])
    table, slot = bench.place("bad")
    statement = (
        f"CREATE TRIGGER bad BEFORE INSERT ON state_0 WHEN NEW.number = {table.number[slot]}"
        " BEGIN SELECT RAISE(ABORT, 'bad page'); END"
    )
    await bench.manager.keeper.write(
        lambda store: store._database._connection.execute(statement)  # type: ignore[attr-defined]
    )
    return client, handles


async def test_the_sweep_stores_what_lies_behind_a_bad_page(models: Path) -> None:
    bench = SessionBench(models, limits=replace(LIMITS, checkpoint_age_s=0.05))
    client, handles = await stepped(bench)

    sweep = asyncio.create_task(bench.manager.checkpointer.run())
    await until(lambda: client.durable == {handles[1]: 1})
    sweep.cancel()
    await asyncio.wait([sweep])

    assert bench.value("tidegate_store_failures_total")
    bench.close()


async def test_the_last_save_stores_what_lies_behind_a_bad_page(lives: Lives) -> None:
    bench = lives.begin()
    client, handles = await stepped(bench)

    unsaved = await bench.manager.save_all()

    assert (unsaved, client.durable) == (1, {handles[1]: 1})


async def test_a_store_that_takes_nothing_at_all_is_asked_no_more(bench: SessionBench) -> None:
    await stepped(bench)

    with bench.store_refuses(), pytest.raises(StoreUnavailable, match="readonly"):
        await bench.checkpoint()

    assert bench.manager.checkpointer.num_dirty() == 2
