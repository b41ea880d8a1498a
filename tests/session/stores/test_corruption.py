"""Bytes of the file and of its log are flipped and cut off at random: what is wrong is never served."""

import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.stores import MODEL, batch, open_for_test, session, state
from tidegate.errors import ConfigError, SessionExists, StoreUnavailable
from tidegate.session.stores.changes import Claim, NewSession
from tidegate.session.stores.store import NO_STATE, Store

NUMBERS = range(1, 41)
IDS = [f"s{n}" for n in NUMBERS]
WRITTEN = {(step, 100) for step in (5, 9)} | {(12, 200)}
"""Steps and epochs of all states that were ever written."""

Damage = tuple[str, str, float, int]


def answers(step: int, epoch: int, numbers: Sequence[int] = NUMBERS) -> dict[int, bytes]:
    """What is kept with the states of a batch at a step under an epoch, by position."""
    return {i: f"{number} {step} {epoch} ".encode() * 9 for i, number in enumerate(numbers)}


damages = st.lists(
    st.tuples(
        st.sampled_from(["s.db", "s.db-wal"]),
        st.sampled_from(["flip", "cut", "zero"]),
        # Not floats: where ONNX Runtime flushes denormals, hypothesis makes none.
        st.integers(0, 99_999).map(lambda n: n / 100_000),
        st.integers(0, 7),
    ),
    min_size=1,
    max_size=12,
)


def make(folder: Path) -> None:
    """A store whose server was killed: half of it in the file, half in the log."""
    live = folder / "live"
    live.mkdir()
    store = open_for_test(live / "s.db")
    store.create([session(n, runs_ahead=True) for n in NUMBERS])
    store.write(batch(NUMBERS, row=0, step=5, answers=answers(5, 100)))
    store.close()
    store = open_for_test(live / "s.db")
    store.write(batch(NUMBERS, row=1, step=9, answers=answers(9, 100)))
    store.claim([Claim(n, 200, b"o", 1, 5e9, 5) for n in NUMBERS[:20]])
    newest = answers(12, 200, NUMBERS[:10])
    store.write(batch(NUMBERS[:10], row=1, step=12, epoch=200, answers=newest))
    store.bury([(40, 9, 9, "gone")])
    for name in ("s.db", "s.db-wal"):
        shutil.copy(live / name, folder / name)
    store.close()


def harm(folder: Path, damage: Damage) -> None:
    name, kind, position, bit = damage
    raw = bytearray((folder / name).read_bytes())
    if not raw:
        return
    offset = int(position * len(raw))
    if kind == "flip":
        raw[offset] ^= 1 << bit
    elif kind == "zero":
        raw[offset : offset + 512] = bytes(len(raw[offset : offset + 512]))
    else:
        del raw[offset:]
    (folder / name).write_bytes(raw)


def check_all(store: Store) -> None:
    """Use a store in every way; what it gives back must have been written."""
    found = store.find(IDS)
    for session_id, known in found.items():
        number = int(session_id[1:])
        assert known.session_id == session_id
        if known.tombstone is not None:
            assert known.steps == (NO_STATE, NO_STATE)
            continue
        assert known.number == number
        assert known.model == MODEL
        assert known.epoch in (100, 200)
        for row, step in enumerate(known.steps):
            if step == NO_STATE:
                continue
            (raw,) = store.read([(number, session_id, row)], MODEL)
            # Among damaged pages SQLite may find a row for many keys at once and not for its key alone.
            assert raw in {None} | {state(number, s, e) for s, e in WRITTEN if s == step and e <= known.epoch}
        (answer,) = store.read_answers([(number, session_id)], MODEL)
        assert answer in {None} | {answers(*written)[number - 1] for written in WRITTEN}
    assert {s.session_id for s in store.page("", "", 100)} <= {*IDS, "new"}


def uses(store: Store) -> list[object]:
    """All that may change a store, each as a call."""
    number = min(store.last_number, 2**40)
    return [
        store.check_writable,
        store.count,
        lambda: store.write(batch(NUMBERS, row=0, step=5)),
        lambda: store.claim([Claim(n, 200, b"o", 1, 5e9, 5) for n in NUMBERS]),
        lambda: store.create([NewSession(number + 1, "new", MODEL, b"", 0, 1, 0.0)]),
        lambda: store.bury([(3, 5, 5, "x")]),
        lambda: store.expire(9e9, 5, set()),
        lambda: store.end([4, 5, 6]),
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damages=damages)
def test_random_damage_never_yields_a_wrong_state_or_another_error(damages: list[Damage]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(PRISTINE, folder, dirs_exist_ok=True)
        for damage in damages:
            harm(folder, damage)

        try:
            store = open_for_test(folder / "s.db")
        except (StoreUnavailable, ConfigError):
            return
        try:
            _refused(lambda: check_all(store))
            for use in uses(store):
                _refused(use)
            _refused(lambda: check_all(store))
        finally:
            store.close()


def test_an_undamaged_copy_has_everything() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(PRISTINE, folder, dirs_exist_ok=True)

        store = open_for_test(folder / "s.db")

        found = store.find(IDS)
        assert [found[i].steps for i in ("s1", "s11", "s21")] == [(5, 12), (5, NO_STATE), (5, 9)]
        assert not any(s.damage for s in found.values())
        kept = store.read_answers([(n, f"s{n}") for n in (1, 11, 21)], MODEL)
        assert kept == [answers(12, 200)[0], None, answers(9, 100)[20]]
        check_all(store)
        store.close()


def test_a_log_cut_anywhere_brings_back_a_whole_older_commit() -> None:
    size = (PRISTINE / "s.db-wal").stat().st_size
    seen = set()
    for kept in range(0, size + 1, size // 40):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            shutil.copytree(PRISTINE, folder, dirs_exist_ok=True)
            (folder / "s.db-wal").write_bytes((PRISTINE / "s.db-wal").read_bytes()[:kept])

            store = open_for_test(folder / "s.db")

            found = store.find(IDS)
            assert len(found) == len(IDS)
            assert not any(s.damage for s in found.values())
            (answer,) = store.read_answers([(1, "s1")], MODEL)
            seen.add((found["s1"].epoch, *found["s1"].steps, answer))
            store.close()
    assert seen == {
        (100, 5, NO_STATE, answers(5, 100)[0]),
        (100, 5, 9, answers(9, 100)[0]),
        (200, 5, NO_STATE, None),
        (200, 5, 12, answers(12, 200)[0]),
    }


def _refused(action) -> None:
    # A new id whose place in the index cannot be read may not be created either.
    with contextlib.suppress(StoreUnavailable, SessionExists):
        action()


_FOLDER = tempfile.TemporaryDirectory()
PRISTINE = Path(_FOLDER.name) / "pristine"
PRISTINE.mkdir()
make(PRISTINE)
shutil.rmtree(PRISTINE / "live")
