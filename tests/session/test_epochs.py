"""Epochs tell a client and a store of which past the other one speaks."""

from __future__ import annotations

import asyncio

import pytest

from support.session_bench import Lives, SessionBench
from support.session_clients import outcome_of
from support.waiting import until
from tidegate.errors import Displaced, SessionLost, TidegateError
from tidegate.session import opening as opening_module
from tidegate.session.open_request import OpenMode

ME, YOU, NOBODY = b"me", b"you", b""


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(
    ("instance", "told", "expected"),
    [
        (ME, "none", 0),
        (ME, "the stored one", 0),
        (YOU, "the stored one", 0),
        (ME, "an older one", 0),
        (YOU, "an older one", Displaced),
        (NOBODY, "an older one", Displaced),
        (ME, "a newer one", SessionLost),
        (YOU, "a newer one", SessionLost),
    ],
)
async def test_what_the_epoch_that_a_client_was_told_says_of_it(
    lives: Lives, restarts: bool, instance: bytes, told: str, expected: type[TidegateError] | int
) -> None:
    bench = lives.begin()
    (stored,) = (await bench.client(ME).open("a")).epochs
    bench = lives.begin() if restarts else bench
    epochs = {"none": 0, "the stored one": stored, "an older one": stored - 1, "a newer one": stored + 1}

    result = await bench.client(instance).resume("a", epochs=[epochs[told]])

    assert outcome_of(result) == expected
    if expected == 0:
        assert result.epochs[0] > stored


async def test_a_client_without_an_instance_that_missed_a_take_over_is_told(bench: SessionBench) -> None:
    (first,) = (await bench.client(NOBODY).open("a")).epochs
    await bench.client(NOBODY).resume("a", epochs=[first])

    assert outcome_of(await bench.client(NOBODY).resume("a", epochs=[first])) is Displaced


async def test_an_epoch_is_stored_before_it_is_told(lives: Lives) -> None:
    bench = lives.begin()
    await bench.client(ME).open("a")
    (told,) = (await bench.client(YOU).resume("a")).epochs
    bench = lives.begin()

    stored = await bench.stored("a")

    assert stored is not None
    assert (stored.epoch, stored.opener) == (told, YOU)


async def test_an_id_used_anew_has_a_later_epoch(lives: Lives) -> None:
    bench = lives.begin()
    (first,) = (await bench.client(ME).open("a")).epochs
    await bench.manager.end_session("a")
    (second,) = (await lives.begin().client(YOU).open("a")).epochs

    refused = await lives.begin().client(ME).resume("a", epochs=[first])

    assert second > first
    assert outcome_of(refused) is Displaced


async def test_epochs_grow_though_the_clock_was_set_back(lives: Lives) -> None:
    bench = lives.begin()
    far_ahead = 1 << 60
    bench.manager.keeper._last_epoch = far_ahead
    await bench.client(ME).open("a")
    bench = lives.begin()
    client = bench.client(ME)
    result = await client.resume("a")
    await client.steps(result.handles[0], 0, [1, 1])
    await bench.checkpoint()

    again = await lives.begin().client(ME).resume("a", have=[2], epochs=result.epochs)

    assert far_ahead < result.epochs[0] < again.epochs[0]
    assert outcome_of(again) == 2


async def test_whoever_gets_a_session_later_gets_the_later_epoch(
    lives: Lives, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening_module, "PIECE", 1)
    monkeypatch.setattr(opening_module, "PIECES_AT_ONCE", 1)
    bench = lives.begin()
    creator = bench.client()
    await creator.open("first", "a")
    slow, quick = bench.client(b"slow"), bench.client(b"quick")
    async with bench.manager.holds.take(["first"]):
        mine = bench.manager.holds._last["first"]
        # Asked for earlier, but it comes to its second session only after the other client.
        opening = asyncio.create_task(slow.open("first", "a", mode=OpenMode.CREATE_OR_RESUME))
        await until(lambda: bench.manager.holds._last["first"] is not mine)
        taken = await quick.resume("a")
        await quick.steps(taken.handles[0], 0, [1, 1])
        await bench.checkpoint()
    result = await opening

    assert result.epochs[1] > taken.epochs[0]
    creator.leave()
    displaced = await bench.client(b"quick").resume("a", epochs=taken.epochs)
    assert outcome_of(displaced) is Displaced
    again = await lives.begin().client(b"slow").resume("a", have=[2], epochs=result.epochs[1:])
    assert outcome_of(again) == 2
