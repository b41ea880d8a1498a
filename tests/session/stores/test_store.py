"""What every store does, in memory and in a file."""

import numpy as np
import pytest

from support.stores import CREATED_S, MODEL, OTHER_MODEL, batch, session, state
from tidegate.errors import SessionExists, StoreFull, StoreUnavailable
from tidegate.session.stores.changes import (
    FORGET_NOTHING,
    Claim,
    ModelKey,
    NewSession,
)
from tidegate.session.stores.store import NO_STATE, Store, Tombstone

NO_STATES = (NO_STATE, NO_STATE)


def claim(number: int, *, epoch: int = 200, forget_above: int = FORGET_NOTHING) -> Claim:
    return Claim(number, epoch, b"opener", 7, CREATED_S + 60, forget_above)


def test_a_created_session_is_found_with_all_that_was_said_of_it(store: Store) -> None:
    store.create([NewSession(4, "ключ 'x'", MODEL, b"\x00\xff", 9, 123456789, CREATED_S)])

    found = store.find(["ключ 'x'", "unknown"])

    assert list(found) == ["ключ 'x'"]
    known = found["ключ 'x'"]
    assert (known.number, known.session_id, known.model, known.creator, known.opener) == (
        4, "ключ 'x'", MODEL, b"\x00\xff", b"\x00\xff",
    )  # fmt: skip
    assert (known.attempt, known.epoch, known.used_s) == (9, 123456789, CREATED_S)
    assert (known.steps, known.damage, known.tombstone) == (NO_STATES, "", None)


def test_an_attempt_may_have_all_64_bits(store: Store) -> None:
    store.create([NewSession(1, "s1", MODEL, b"c", 2**64 - 1, 1, CREATED_S)])

    assert store.find(["s1"])["s1"].attempt == 2**64 - 1


def test_states_are_read_back_as_they_were_written(store: Store) -> None:
    store.create([session(n) for n in (1, 2, 3)])

    stored = store.write(batch([1, 2, 3], row=0, step=10))
    store.write(batch([2], row=1, step=11))

    assert stored.tolist() == [True, True, True]
    assert store.find(["s2", "s3"])["s2"].steps == (10, 11)
    assert store.find(["s2", "s3"])["s3"].steps == (10, NO_STATE)
    wanted = [(2, "s2", 1), (3, "s3", 1), (1, "s1", 0), (2, "s2", 0)]
    assert store.read(wanted, MODEL) == [state(2, 11), None, state(1, 10), state(2, 10)]


def test_one_batch_may_fill_both_rows(store: Store) -> None:
    store.create([session(1), session(2)])
    states = batch([1, 2], row=0, step=5)
    states.rows[1] = 1

    store.write(states)

    assert store.find(["s1"])["s1"].steps == (5, NO_STATE)
    assert store.find(["s2"])["s2"].steps == (NO_STATE, 5)


def test_a_state_in_a_row_takes_the_place_of_the_one_before(store: Store) -> None:
    store.create([session(1)])
    store.write(batch([1], row=0, step=5))

    store.write(batch([1], row=0, step=6, used_s=CREATED_S + 5))

    assert store.find(["s1"])["s1"].steps == (6, NO_STATE)
    assert store.find(["s1"])["s1"].used_s == CREATED_S + 5
    assert store.read([(1, "s1", 0)], MODEL) == [state(1, 6)]


def test_a_state_of_an_older_owner_is_not_stored(store: Store) -> None:
    store.create([session(n) for n in (1, 2)])
    store.write(batch([1, 2], row=0, step=5))
    store.claim([claim(1)])

    stored = store.write(batch([1, 2], row=0, step=9))

    assert stored.tolist() == [False, True]
    assert store.read([(1, "s1", 0), (2, "s2", 0)], MODEL) == [state(1, 5), state(2, 9)]


def test_a_state_of_no_session_is_not_stored(store: Store) -> None:
    store.create([session(n) for n in (1, 2)])
    store.bury([(1, 0, 0, "gone")])
    store.end([2])

    stored = store.write(batch([1, 2, 3], row=0, step=5))
    store.create([session(2)])

    assert stored.tolist() == [False, False, False]
    assert store.find(["s2"])["s2"].steps == NO_STATES


def test_a_state_of_another_model_is_not_read(store: Store) -> None:
    store.create([session(1)])
    store.write(batch([1], row=0, step=5))

    assert store.read([(1, "s1", 0)], OTHER_MODEL) == [None]
    assert store.read([(1, "s9", 0)], MODEL) == [None]


def test_a_claim_renews_the_owner_and_forgets_what_is_above(store: Store) -> None:
    store.create([session(n) for n in (1, 2, 3)])
    store.write(batch([1, 2, 3], row=0, step=10))
    store.write(batch([1, 2, 3], row=1, step=20))

    store.claim([claim(1, forget_above=10), claim(2, forget_above=0), claim(3)])

    found = store.find(["s1", "s2", "s3"])
    assert [found[i].steps for i in ("s1", "s2", "s3")] == [(10, NO_STATE), NO_STATES, (10, 20)]
    first = found["s1"]
    assert (first.creator, first.opener, first.attempt, first.epoch) == (b"client", b"opener", 7, 200)
    assert first.used_s == CREATED_S + 60


def test_a_claim_on_an_unknown_session_changes_none(store: Store) -> None:
    store.create([session(1)])

    with pytest.raises(StoreUnavailable, match="session 2"):
        store.claim([claim(1), claim(2)])

    assert store.find(["s1"])["s1"].epoch == 100


def test_a_known_id_is_not_created_again(store: Store) -> None:
    store.create([session(1), session(2)])
    store.bury([(2, 0, 0, "gone")])

    for number in (1, 2):
        with pytest.raises(SessionExists, match=f"s{number}"):
            store.create([session(3), NewSession(4, f"s{number}", MODEL, b"", 0, 1, 0.0)])

    assert "s3" not in store.find(["s3"])


def test_an_ended_session_leaves_nothing_and_frees_its_id(store: Store) -> None:
    store.create([session(1), session(2)])
    store.write(batch([1], row=0, step=5))

    store.end([1, 77])

    assert store.find(["s1"]) == {}
    assert store.count().sessions == 1
    store.create([session(1)])
    assert store.find(["s1"])["s1"].steps == NO_STATES


def test_a_tombstone_keeps_the_id_and_the_last_steps(store: Store) -> None:
    store.create([session(1), session(2)])
    store.write(batch([1], row=1, step=5))

    store.bury([(1, 8, 5, "evicted"), (2, 0, 0, "other")])

    lost = store.find(["s1"])["s1"]
    assert lost.tombstone == Tombstone(8, 5, "evicted")
    assert (lost.number, lost.model, lost.steps, lost.damage) == (1, MODEL, NO_STATES, "")
    assert store.read([(1, "s1", 1)], MODEL) == [None]
    counts = store.count()
    assert (counts.sessions, counts.tombstones) == (0, 2)


def test_a_tombstone_is_not_buried_again_and_can_be_ended(store: Store) -> None:
    store.create([session(1)])
    store.bury([(1, 8, 5, "evicted")])

    store.bury([(1, 9, 9, "again")])

    assert store.find(["s1"])["s1"].tombstone == Tombstone(8, 5, "evicted")
    store.end([1])
    assert store.find(["s1"]) == {}
    assert (store.count().sessions, store.count().tombstones) == (0, 0)


def test_sessions_expire_by_their_last_use(store: Store) -> None:
    store.create([session(n) for n in (1, 2, 3, 4)])
    store.write(batch([2], row=0, step=5, used_s=CREATED_S + 100))
    store.write(batch([3], row=0, step=6))

    expired = store.expire(CREATED_S + 50, 10, {4})

    assert [(s.session_id, s.steps) for s in expired] == [("s1", NO_STATES), ("s3", (6, NO_STATE))]
    lost = store.find(["s3"])["s3"].tombstone
    assert lost == expired[1].tombstone
    assert lost == Tombstone(6, 6, "expired: not used since 2023-11-14 22:13:20 UTC")
    assert all(store.find([i])[i].tombstone is None for i in ("s2", "s4"))


def test_expiry_takes_no_more_than_its_limit_and_goes_on(store: Store) -> None:
    store.create([session(n) for n in range(1, 6)])

    sizes = [len(store.expire(CREATED_S + 1, 2, set())) for _ in range(4)]

    assert sizes == [2, 2, 1, 0]


def test_pages_hold_every_living_session_once(store: Store) -> None:
    store.create([session(n, model=MODEL if n % 2 else OTHER_MODEL) for n in range(1, 51)])
    store.write(batch([7], row=0, step=3))
    store.bury([(1, 0, 0, "gone")])

    pages = {name: _all_pages(store, name) for name in ("", "co2", "wind", "none")}

    assert sorted(pages[""]) == sorted(f"s{n}" for n in range(2, 51))
    assert sorted(pages["co2"]) == sorted(f"s{n}" for n in range(3, 51, 2))
    assert sorted(pages["wind"]) == sorted(f"s{n}" for n in range(2, 51, 2))
    assert pages["none"] == []
    assert next(s for s in store.page("co2", "", 100) if s.number == 7).steps == (3, NO_STATE)


def test_paging_goes_on_behind_an_id_that_is_gone(store: Store) -> None:
    store.create([session(n) for n in range(1, 21)])
    first = store.page("", "", 7)

    store.end([first[-1].number])

    rest = store.page("", first[-1].session_id, 100)
    assert len({s.session_id for s in [*first, *rest]}) == 20


def test_a_full_store_takes_no_more_sessions(opened) -> None:
    store = opened(max_stored_sessions=3)
    store.create([session(1), session(2)])

    with pytest.raises(StoreFull, match=r"max_stored_sessions \(3\)"):
        store.create([session(3), session(4)])

    store.create([session(3)])
    store.bury([(1, 0, 0, "gone")])
    store.create([session(4)])
    assert store.count().sessions == 3


def test_the_oldest_tombstones_are_forgotten(opened, caplog) -> None:
    store = opened(max_tombstones=2)
    store.create([session(n) for n in range(1, 6)])

    for n in (3, 1, 2):
        store.bury([(n, 0, 0, "gone")])

    assert set(store.find([f"s{n}" for n in range(1, 6)])) == {"s1", "s2", "s4", "s5"}
    assert "max_tombstones" in caplog.text
    assert len(store.expire(CREATED_S + 1, 10, set())) == 2
    assert set(store.find([f"s{n}" for n in range(1, 6)])) == {"s4", "s5"}
    assert store.count().tombstones == 2


def test_sessions_are_pinned_to_their_version(store: Store) -> None:
    newer = ModelKey("co2", "4", "ef" * 32)

    store.create([session(1), session(2, model=newer), session(3, model=OTHER_MODEL)])

    found = store.find(["s1", "s2", "s3"])
    assert [found[f"s{n}"].model for n in (1, 2, 3)] == [MODEL, newer, OTHER_MODEL]


def test_states_may_be_of_any_size(store: Store) -> None:
    store.create([session(n) for n in (1, 2)])
    big = batch([1], row=0, step=5)
    big = type(big)(
        big.model, big.numbers, big.session_ids, big.rows, big.steps, big.epochs, big.used_s,
        np.arange(100_000, dtype=np.uint32).view(np.uint8).reshape(1, -1),
    )  # fmt: skip
    empty = batch([2], row=0, step=5)
    empty = type(empty)(
        empty.model, empty.numbers, empty.session_ids, empty.rows, empty.steps, empty.epochs, empty.used_s,
        np.zeros((1, 0), np.uint8),
    )  # fmt: skip

    store.write(big)
    store.write(empty)

    assert store.read([(1, "s1", 0), (2, "s2", 0)], MODEL) == [big.states.tobytes(), b""]


def test_nothing_asked_is_nothing_done(store: Store) -> None:
    store.create([])
    store.claim([])
    store.end([])
    store.bury([])

    assert store.write(batch([], row=0, step=0)).tolist() == []
    assert store.find([]) == {}
    assert store.read([], MODEL) == []
    assert store.expire(0.0, 10, set()) == []


def _all_pages(store: Store, model_name: str) -> list[str]:
    ids: list[str] = []
    while found := store.page(model_name, ids[-1] if ids else "", 7):
        ids += [s.session_id for s in found]
    return ids
