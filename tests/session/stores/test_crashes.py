"""A server may die between any two calls to the store, or inside one: all of a call is there, or nothing."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from support.stores import CREATED_S, MODEL, batch, open_for_test, session
from tidegate.session.stores.changes import Claim
from tidegate.session.stores.store import Store

IDS = range(1, 9)
"""Sessions that calls are about; a number comes back under another one once it has ended."""


class Expected:
    """What a store must have, told by plain dictionaries."""

    def __init__(self) -> None:
        self.steps: dict[int, int] = {}
        self.epochs: dict[int, int] = {}
        self.answers: dict[int, bytes | None] = {}
        self.marks: dict[int, int] = {}
        self.run = 0

    def forget(self, numbers: set[int]) -> None:
        for number in numbers:
            for known in (self.steps, self.epochs, self.answers, self.marks):
                known.pop(number, None)


def _create(store: Store, about: set[int], chosen: set[int], expected: Expected) -> None:
    new = about - set(expected.steps)
    store.create([session(n, runs_ahead=n in chosen) for n in sorted(new)])
    for n in new:
        expected.steps[n], expected.epochs[n], expected.answers[n] = 0, 100, None
    expected.marks |= dict.fromkeys(new & chosen, expected.run)


def _write(store: Store, about: set[int], chosen: set[int], expected: Expected) -> None:
    for n in about & set(expected.steps):
        step = expected.steps[n] + 1
        answer = os.urandom(20) if n in chosen else None
        answers = {} if answer is None else {0: answer}
        store.write(batch([n], row=step % 2, step=step, epoch=expected.epochs[n], answers=answers))
        expected.steps[n], expected.answers[n] = step, answer


def _mark(store: Store, about: set[int], _chosen: set[int], expected: Expected) -> None:
    store.mark_ahead(sorted(about))
    expected.marks |= dict.fromkeys(about & set(expected.steps), expected.run)


def _unmark(store: Store, _about: set[int], chosen: set[int], expected: Expected) -> None:
    store.unmark_ahead(sorted(chosen))
    expected.marks = {n: run for n, run in expected.marks.items() if n not in chosen}


def _touch(store: Store, about: set[int], chosen: set[int], expected: Expected) -> None:
    store.touch(np.array(sorted(about), np.int64), np.full(len(about), CREATED_S), caught_up=sorted(chosen))
    expected.marks = {n: run for n, run in expected.marks.items() if n not in chosen}


def _claim(store: Store, _about: set[int], chosen: set[int], expected: Expected) -> None:
    mine = chosen & set(expected.steps)
    store.claim([Claim(n, expected.epochs[n] + 1, b"", 0, CREATED_S, expected.steps[n]) for n in mine])
    expected.epochs |= {n: expected.epochs[n] + 1 for n in mine}


def _end(store: Store, about: set[int], _chosen: set[int], expected: Expected) -> None:
    store.end(sorted(about))
    expected.forget(about)


def _bury(store: Store, _about: set[int], chosen: set[int], expected: Expected) -> None:
    store.bury([(n, 0, 0, "lost") for n in sorted(chosen & set(expected.steps))])
    store.end(sorted(chosen))
    expected.forget(chosen)


def _end_run(store: Store, _about: set[int], _chosen: set[int], expected: Expected) -> None:
    store.end_run()
    expected.marks = {n: run for n, run in expected.marks.items() if run != expected.run}


CALLS = [_create, _write, _mark, _unmark, _touch, _claim, _end, _bury, _end_run]
"""Each makes one call about sessions, some of them chosen for more, and notes what must come of it."""

calls = st.tuples(
    st.sampled_from([*CALLS, None]), st.sets(st.sampled_from(IDS), min_size=1), st.sets(st.sampled_from(IDS))
)


def check(store: Store, expected: Expected) -> None:
    """Hold a store against what it must have."""
    ids = {f"s{n}": n for n in IDS}
    found = {ids[i]: s for i, s in store.find(list(ids)).items() if s.tombstone is None}
    assert {n: s.next_step for n, s in found.items()} == expected.steps
    assert {n: s.epoch for n, s in found.items()} == expected.epochs
    assert {n for n, s in found.items() if s.may_have_lost_steps} == set(expected.marks)
    numbers = sorted(found)
    answers = store.read_answers([(n, f"s{n}") for n in numbers], MODEL)
    assert dict(zip(numbers, answers, strict=True)) == expected.answers


@settings(max_examples=15, deadline=None)
@given(st.lists(calls, max_size=14))
def test_a_copy_made_after_any_call_has_what_was_told(
    script: list[tuple[Callable[..., None] | None, set[int], set[int]]],
) -> None:
    expected = Expected()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = open_for_test(folder / "s.db")
        for i, (call, about, chosen) in enumerate(script):
            if call is None:  # as after a crash: nobody ended the run
                store.close()
                store = open_for_test(folder / "s.db")
                expected.run += 1
            else:
                call(store, about, about & chosen, expected)
            copy = folder / str(i)
            copy.mkdir()
            for part in ("s.db", "s.db-wal"):
                shutil.copy(folder / part, copy / part) if (folder / part).exists() else None
            after_crash = open_for_test(copy / "s.db")
            check(after_crash, expected)
            after_crash.close()
        store.close()


WRITER = """
import sys
from pathlib import Path
from support.stores import batch, open_for_test, session

store = open_for_test(Path(sys.argv[1]))
numbers = range(1, 101)
store.create([session(n, runs_ahead=True) for n in numbers])
step = 0
while True:
    step += 1
    answers = {i: b"%d of %d" % (step, n) * 50 for i, n in enumerate(numbers) if (n + step) % 3}
    store.write(batch(numbers, row=step % 2, step=step, answers=answers))
    print(step, flush=True)
"""


def test_a_process_that_is_killed_leaves_states_with_their_answers(
    path: Path, rng: np.random.Generator
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    for life in range(4):
        file = path.with_name(f"{life}.db")
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, file], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(rng.integers(2, 40)):
            told = int(writer.stdout.readline())
        spin(rng.uniform(0, 0.005))
        writer.send_signal(signal.SIGKILL)
        told = max([told, *(int(line) for line in writer.communicate()[0].split())])

        store = open_for_test(file)

        found = store.find([f"s{n}" for n in range(1, 101)])
        (step,) = {s.next_step for s in found.values()}
        assert step in (told, told + 1)
        assert all(s.may_have_lost_steps and not s.damage for s in found.values())
        expected = [b"%d of %d" % (step, n) * 50 if (n + step) % 3 else None for n in range(1, 101)]
        assert store.read_answers([(n, f"s{n}") for n in range(1, 101)], MODEL) == expected
        store.close()


def spin(duration_s: float) -> None:
    """Let the writer come to any place inside of a call."""
    end_s = time.monotonic() + duration_s
    while time.monotonic() < end_s:
        pass


def timed(call: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    call()
    return time.perf_counter() - began_s


def test_what_answers_cost_a_commit_is_printed(path: Path) -> None:
    store = open_for_test(path)
    numbers = range(1, 257)
    store.create([session(n) for n in numbers])
    answers = {i: bytes(300) for i in range(len(numbers))}

    times: dict[str, list[float]] = {"without": [], "with": []}
    for step in range(1, 41, 2):
        plain = batch(numbers, row=0, step=step)
        kept = batch(numbers, row=1, step=step + 1, answers=answers)
        times["without"].append(timed(lambda plain=plain: store.write(plain)))
        times["with"].append(timed(lambda kept=kept: store.write(kept)))

    for kind, taken_s in times.items():
        print(f"256 states {kind} answers of 300 bytes: {np.median(taken_s) * 1e3:.2f} ms a commit")  # noqa: T201
    assert store.read_answers([(256, "s256")], MODEL) == [bytes(300)]
    store.close()
