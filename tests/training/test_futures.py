"""What a network is trained to forecast lies in its part of the series, and was measured."""

from __future__ import annotations

from pathlib import Path

from tidegate.training.data import read_series
from tidegate.training.recipe import read_recipe


def test_a_future_beyond_its_split_does_not_count(recipe_path: Path) -> None:
    series = read_series(recipe_path.with_name("tiny.csv"), read_recipe(recipe_path).recipe.data)

    future, counts = series.futures(2, slice(38, 42))  # row 40 was not measured

    assert counts.tolist() == [[True, False], [False, True], [True, False], [False, False]]
    assert future[counts].tolist() == series.target[[39, 41, 41]].tolist()
