"""Which rows an epoch trains on, and which of its runs begin cold."""

from __future__ import annotations

import numpy as np
import torch

from tidegate.training.data import Series
from tidegate.training.runs import Runs
from tidegate.training.training_recipe import TrainingRecipe

NUM_ROWS = 200
ROWS = slice(0, NUM_ROWS)


def runs(num_rows: int = NUM_ROWS, **plan: float) -> Runs:
    """Of a series whose value is the row's number."""
    values = np.arange(num_rows + 50, dtype=np.float32)
    times = np.datetime64("2020-01-01", "us") + np.arange(len(values)) * np.timedelta64(1, "D")
    series = Series(times, values[:, None], values, np.ones(len(values), np.bool_), sha256="")
    keys = {"batch_size": 8, "run_chunks": 2, "chunk_steps": 5} | plan
    recipe = TrainingRecipe.model_validate(keys)
    return Runs(series, slice(0, num_rows), 3, recipe, torch.device("cpu"))


def rows_of_epoch(drawn: Runs) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """The rows that each run reads in the next epoch, [B, run_steps]."""
    drawn.begin_epoch()
    return np.concatenate([chunk.values[..., 0].numpy() for chunk in drawn.chunks()], 1)


def test_a_run_reads_rows_that_follow_each_other() -> None:
    found = rows_of_epoch(runs())

    assert found.shape == (8, 10)
    np.testing.assert_array_equal(np.diff(found, axis=1), 1)
    assert len(set(found[:, 0])) > 4


def test_a_future_is_what_comes_after_its_row_and_lies_in_the_split() -> None:
    drawn = runs(num_rows=10, batch_size=2)
    drawn.begin_epoch()

    *_, last = drawn.chunks()

    assert last.future[0, 0].tolist() == [6, 7, 8]
    assert last.counts[0].tolist() == [
        [True] * 3,
        [True] * 3,
        [True, True, False],
        [True, False, False],
        [False] * 3,
    ]


def test_all_begin_anew_in_the_first_epoch() -> None:
    assert runs(cold_share=0.0).begin_epoch().all()


def test_with_a_share_of_one_all_begin_anew_in_every_epoch() -> None:
    drawn = runs(cold_share=1.0)
    first = rows_of_epoch(drawn)

    is_cold = drawn.begin_epoch()

    assert is_cold.all()
    assert (next(drawn.chunks()).values[:, 0, 0].numpy() != first[:, -1] + 1).any()


def test_runs_take_turns_to_begin_anew_and_the_others_go_on() -> None:
    drawn = runs(num_rows=10_000, cold_share=0.25)
    before, turns = rows_of_epoch(drawn), []

    for _ in range(4):
        is_cold = drawn.begin_epoch()
        turns.append(is_cold)
        found = np.concatenate([chunk.values[..., 0].numpy() for chunk in drawn.chunks()], 1)
        np.testing.assert_array_equal(found[~is_cold, 0], before[~is_cold, -1] + 1)
        before = found

    assert [turn.sum() for turn in turns] == [2, 2, 2, 2]
    assert np.logical_or.reduce(turns).all()


def test_a_small_share_of_few_runs_is_one_of_them() -> None:
    drawn = runs(num_rows=10_000, batch_size=2, cold_share=0.1)
    rows_of_epoch(drawn)

    turns = [drawn.begin_epoch() for _ in range(2)]

    assert [turn.tolist() for turn in turns] == [[False, True], [True, False]] or [
        turn.tolist() for turn in turns
    ] == [[True, False], [False, True]]


def test_a_run_without_enough_rows_before_it_begins_anew() -> None:
    drawn = runs(cold_share=0.0)
    num_cold = 0
    before = rows_of_epoch(drawn)

    for _ in range(NUM_ROWS // 10):
        is_cold = drawn.begin_epoch()
        np.testing.assert_array_equal(is_cold, before[:, -1] + 10 >= NUM_ROWS)
        before = np.concatenate([chunk.values[..., 0].numpy() for chunk in drawn.chunks()], 1)
        num_cold += is_cold.sum()

    assert num_cold >= 8


def test_runs_go_on_from_a_snapshot_as_if_nothing_had_been() -> None:
    drawn = runs(cold_share=0.5)
    rows_of_epoch(drawn)
    kept = drawn.snapshot()
    expected = [rows_of_epoch(drawn) for _ in range(3)]

    other = runs(cold_share=0.5)
    other.restore(kept)

    np.testing.assert_array_equal([rows_of_epoch(other) for _ in range(3)], expected)
