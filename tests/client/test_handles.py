"""Whose a handle is."""

from __future__ import annotations

import numpy as np

from tidegate.client.handles import HandleMap


def test_a_message_is_parted_by_owner() -> None:
    handles: HandleMap[str] = HandleMap()
    handles.add("fleet", np.array([30, 10, 20]), np.array([0, 1, 2]))
    handles.add("session", np.array([15]), np.array([0]))

    shares = {s.owner: (s.rows.tolist(), s.positions.tolist()) for s in handles.split([20, 99, 15, 30])}

    assert shares == {"fleet": ([2, 0], [0, 3]), "session": ([0], [2])}


def test_what_is_discarded_is_nobodys() -> None:
    handles: HandleMap[str] = HandleMap()
    handles.add("a", np.array([1, 2]), np.array([0, 1]))
    handles.add("b", np.array([3]), np.array([0]))

    handles.discard([1, 3])

    assert [(s.owner, s.rows.tolist()) for s in handles.all()] == [("a", [1])]
    assert list(handles.split([1, 3])) == []


def test_a_handle_may_be_given_out_again() -> None:
    handles: HandleMap[str] = HandleMap()
    handles.add("a", np.array([1]), np.array([0]))
    handles.discard([1])
    handles.add("b", np.array([1]), np.array([5]))

    assert [(s.owner, s.rows.tolist()) for s in handles.split([1])] == [("b", [5])]


def test_an_empty_map_knows_nobody() -> None:
    assert list(HandleMap[str]().split([1, 2])) == []
