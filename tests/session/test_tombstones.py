"""Ids of lost sessions."""

from __future__ import annotations

import pytest

from tidegate.session.tombstones import Tombstone, Tombstones


def test_a_tombstone_stays_until_it_is_removed() -> None:
    tombstones = Tombstones(capacity=2)
    tombstones.add("a", Tombstone(7, "no stream for 5 s"))

    assert tombstones.get("a") == tombstones.remove("a") == Tombstone(7, "no stream for 5 s")
    assert tombstones.get("a") is None
    assert tombstones.remove("a") is None


def test_past_the_limit_the_oldest_is_forgotten_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    tombstones = Tombstones(capacity=2)

    for session_id in ("a", "b", "c"):
        tombstones.add(session_id, Tombstone(1, "why"))

    assert [tombstones.get(i) is not None for i in ("a", "b", "c")] == [False, True, True]
    assert [record.__dict__["session_id"] for record in caplog.records] == ["a"]


def test_each_client_gets_an_error_of_its_own_with_the_last_step() -> None:
    tombstone = Tombstone(7, "no stream for 5 s")

    error = tombstone.error("a")

    assert error.next_step == 7
    assert str(error) == "session 'a' was lost after 7 steps: no stream for 5 s; close it to use the id again"
    assert tombstone.error("a") is not error
