"""What training computes on."""

from __future__ import annotations

from pathlib import Path

import torch
from threadpoolctl import threadpool_info, threadpool_limits

from tidegate.training.data import read_series, split_series
from tidegate.training.recipe import read_recipe
from tidegate.training.train import Watcher, train


def blas_threads() -> set[int]:
    """Of NumPy's linear algebra."""
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_a_training_computes_on_one_thread_and_leaves_the_number_as_it_was(recipe_path: Path) -> None:
    recipe = read_recipe(recipe_path).recipe
    series = read_series(recipe_path.with_name("tiny.csv"), recipe.data)
    seen: list[set[int]] = []

    with threadpool_limits(limits=2, user_api="blas"):
        before = blas_threads()
        torch.set_num_threads(2)
        watcher = Watcher(begun=lambda _: seen.append(blas_threads() | {torch.get_num_threads()}))
        train(recipe, series, split_series(series, recipe), watcher=watcher)
        after = blas_threads(), torch.get_num_threads()
    torch.set_num_threads(1)

    assert before == {2}
    assert seen == [{1}]
    assert after == ({2}, 2)
