"""The books on base, head and ack, held against a scalar model: every short history, and long random ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.protocol.checkpoints import NO_HEAD, NO_ROW, CheckpointBooks, PendingWrite
from tidegate.tensor import IntArray, SlotArray


class Act(IntEnum):
    """What may happen to a session; what is impossible at the time does nothing."""

    STEP = 0
    BEGIN = 1
    """One more step, whose state is handed to the store."""
    COMMIT = 2
    FAIL = 3
    ACK_ONE = 4
    ACK_ALL = 5
    TO_BASE = 6
    """A resume goes back to the base; 'to head' likewise, and forgets the base."""
    TO_HEAD = 7


@dataclass(frozen=True)
class Stored:
    """One session by the words of the rules: what two rows hold, and what was acked."""

    next_step: int = 0
    acked: int = 0
    rows: tuple[int | None, int | None] = (None, None)
    pending: tuple[int, int] | None = None
    """Row and step of the write that is under way."""

    @property
    def base(self) -> int:
        """The newest stored state at or below the ack; the initial state counts as stored."""
        return max({0} | {step for step in self.rows if step is not None and step <= self.acked})

    @property
    def base_row(self) -> int:
        return self.rows.index(self.base) if self.base in self.rows else NO_ROW

    @property
    def head(self) -> int:
        """The newest stored state of all, if it is not the base."""
        newest = max([step for step in self.rows if step is not None], default=0)
        return newest if newest > self.base else NO_HEAD

    def put(self, row: int, step: int | None) -> tuple[int | None, int | None]:
        return (step, self.rows[1]) if row == 0 else (self.rows[0], step)

    def at(self, step: int) -> Stored:
        """Resumed from a stored state: what is newer is deleted, what was under way came before."""
        older = tuple(s if s is not None and s <= step else None for s in self.rows)
        return Stored(step, step, (older[0], older[1]))

    def after(self, act: Act) -> Stored:
        match act:
            case Act.STEP:
                return replace(self, next_step=self.next_step + 1)
            case Act.BEGIN if self.pending is None:
                row = 1 if self.base_row == 0 else 0
                step = self.next_step + 1
                return replace(self, next_step=step, rows=self.put(row, None), pending=(row, step))
            case Act.COMMIT if self.pending is not None:
                return replace(self, rows=self.put(*self.pending), pending=None)
            case Act.FAIL:
                return replace(self, pending=None)
            case Act.ACK_ONE:
                return replace(self, acked=min(self.acked + 1, self.next_step))
            case Act.ACK_ALL:
                return replace(self, acked=self.next_step)
            case Act.TO_BASE:
                return self.at(self.base)
            case Act.TO_HEAD if self.head != NO_HEAD:
                return self.at(self.head)
        return self


class Bench:
    """Books whose sessions are driven by lists of acts, many sessions at a time."""

    def __init__(self, num_sessions: int) -> None:
        self.slots: SlotArray = np.arange(1, num_sessions + 1, dtype=np.int32)
        self.books = CheckpointBooks(num_sessions)
        self.books.created(self.slots)
        self.next_step: IntArray = np.zeros(num_sessions + 1, np.int64)
        self.pending: list[PendingWrite] = []

    def do(self, acts: IntArray) -> None:
        """One act for each session; checks that the books tell whose base moved by a commit or an ack."""
        before, told = self.books.base_step.copy(), np.zeros(len(self.next_step), np.bool_)
        for act in Act:
            slots = self.slots[acts == act]
            told[self._do(act, slots)] = True
        moved = self.books.base_step > before
        by_resume = np.concatenate([[False], acts >= Act.TO_BASE])
        assert (told[~by_resume] == moved[~by_resume]).all()
        self.books.check_integrity(self.slots, self.next_step[self.slots])

    def _do(self, act: Act, slots: SlotArray) -> SlotArray:
        books, nobody = self.books, slots[:0]
        match act:
            case Act.STEP:
                self.next_step[slots] += 1
            case Act.BEGIN:
                idle = slots[~books.is_writing(slots)]
                self.next_step[idle] += 1
                assert books.is_dirty(idle, self.next_step[idle]).all()
                self.pending.append(books.begin_write(idle, self.next_step[idle]))
            case Act.COMMIT:
                moved = [books.written(write) for write in self._cut(slots)]
                return np.concatenate([nobody, *moved])
            case Act.FAIL:
                for write in self._cut(slots):
                    books.failed(write)
            case Act.ACK_ONE:
                return books.ack(slots, np.minimum(books.acked[slots] + 1, self.next_step[slots]))
            case Act.ACK_ALL:
                return books.ack(slots, self.next_step[slots])
            case Act.TO_BASE:
                self._resume(slots, books.base_step[slots], books.base_row[slots])
            case Act.TO_HEAD:
                with_head = slots[books.head_step[slots] != NO_HEAD]
                self._resume(with_head, *books.newest_stored(with_head))
        return nobody

    def _resume(self, slots: SlotArray, steps: IntArray, rows: np.ndarray) -> None:
        self.next_step[slots] = steps
        self.books.resumed(slots, steps, rows)

    def _cut(self, slots: SlotArray) -> list[PendingWrite]:
        """The parts of all writes that are of these sessions, as if each had been written alone."""
        parts = [(write, np.isin(write.slots, slots)) for write in self.pending]
        return [replace(w, slots=w.slots[own], steps=w.steps[own], rows=w.rows[own]) for w, own in parts]

    def assert_equal(self, models: list[Stored]) -> None:
        books = self.books
        got = zip(
            self.next_step[self.slots].tolist(),
            books.acked[self.slots].tolist(),
            books.base_step[self.slots].tolist(),
            books.base_row[self.slots].tolist(),
            books.head_step[self.slots].tolist(),
            books.is_writing(self.slots).tolist(),
            strict=True,
        )
        assert list(got) == [
            (m.next_step, m.acked, m.base, m.base_row, m.head, m.pending is not None) for m in models
        ]


DEPTH = 6


def test_every_short_history_leaves_the_books_as_the_scalar_model_says() -> None:
    models, bench = [Stored()], Bench(len(Act) ** DEPTH)

    for depth in range(DEPTH):
        models = [model.after(act) for model in models for act in Act]
        acts = np.arange(len(bench.slots)) // len(Act) ** (DEPTH - 1 - depth) % len(Act)
        bench.do(acts)

    bench.assert_equal(models)


@settings(max_examples=60, deadline=None)  # a busy machine is no failure
@given(st.lists(st.lists(st.sampled_from(Act), min_size=30, max_size=30), min_size=1, max_size=4))
def test_long_histories_leave_the_books_as_the_scalar_model_says(histories: list[list[Act]]) -> None:
    models, bench = [Stored()] * len(histories), Bench(len(histories))

    for acts in zip(*histories, strict=True):
        models = [model.after(act) for model, act in zip(models, acts, strict=True)]
        bench.do(np.array(acts))
        bench.assert_equal(models)


ONE = np.array([1], np.int32)


def steps(step: int) -> IntArray:
    return np.array([step], np.int64)


@pytest.fixture
def books() -> CheckpointBooks:
    """Books of one session in slot 1, which has run ten steps."""
    books = CheckpointBooks(capacity=1)
    books.created(ONE)
    return books


def write(books: CheckpointBooks, step: int) -> None:
    books.written(books.begin_write(ONE, steps(step)))


def test_an_ack_that_reaches_a_head_under_the_pen_does_not_make_it_base(books: CheckpointBooks) -> None:
    write(books, 5)
    under_way = books.begin_write(ONE, steps(8))

    moved = books.ack(ONE, steps(6))

    # The commit takes the state at step 5 away: had it become base, there would be none.
    assert moved.tolist() == []
    assert books.written(under_way).tolist() == []
    assert (books.base_step[1], books.head_step[1]) == (0, 8)


def test_a_commit_that_comes_after_a_resume_is_passed_over(books: CheckpointBooks) -> None:
    under_way = books.begin_write(ONE, steps(8))
    books.resumed(ONE, steps(0), np.array([NO_ROW], np.int8))

    moved = books.written(under_way)

    assert moved.tolist() == []
    assert books.head_step[1] == NO_HEAD


def test_a_commit_of_an_older_write_does_not_end_a_newer_one(books: CheckpointBooks) -> None:
    older = books.begin_write(ONE, steps(8))
    books.resumed(ONE, steps(0), np.array([NO_ROW], np.int8))
    books.begin_write(ONE, steps(8))

    books.written(older)

    assert books.is_writing(ONE).all()
    assert books.head_step[1] == NO_HEAD


def test_a_late_failure_does_not_end_a_newer_write(books: CheckpointBooks) -> None:
    older = books.begin_write(ONE, steps(8))
    books.created(ONE)
    books.begin_write(ONE, steps(1))

    books.failed(older)

    assert books.is_writing(ONE).all()


def test_a_second_write_of_a_session_waits_for_the_first(books: CheckpointBooks) -> None:
    books.begin_write(ONE, steps(8))

    with pytest.raises(AssertionError, match="two writes"):
        books.begin_write(ONE, steps(9))


def test_a_session_that_returns_keeps_base_and_head(books: CheckpointBooks) -> None:
    books.returned(ONE, steps(5), np.array([1], np.int8), steps(8))

    assert books.newest_stored(ONE) == (steps(8), np.array([0], np.int8))
    assert (books.base_step[1], books.acked[1]) == (5, 5)
    assert books.ack(ONE, steps(8)).tolist() == [1]
    assert (books.base_step[1], books.base_row[1], books.head_step[1]) == (8, 0, NO_HEAD)


def test_a_lower_ack_changes_nothing(books: CheckpointBooks) -> None:
    books.ack(ONE, steps(7))

    books.ack(ONE, steps(3))

    assert books.acked[1] == 7


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("base_row", 2, "in no row"),
        ("base_row", NO_ROW, "initial state"),
        ("base_step", 7, "ahead of its ack"),
        ("acked", 11, "ack is ahead of the steps"),
        ("head_step", 6, "acked head"),
        ("head_step", 11, "head is ahead"),
    ],
)
def test_books_that_do_not_add_up_are_found(books: CheckpointBooks, name: str, value: int, text: str) -> None:
    books.returned(ONE, steps(5), np.array([0], np.int8), steps(8))
    books.ack(ONE, steps(6))
    books.check_integrity(ONE, steps(10))

    getattr(books, name)[1] = value

    with pytest.raises(AssertionError, match=text):
        books.check_integrity(ONE, steps(10))
