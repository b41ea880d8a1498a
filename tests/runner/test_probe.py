"""The probe finds operators whose answers depend on the company, and clears those that do not.

Which operators are exact was measured (ONNX Runtime 1.32, AVX-512); the graphs below differ on every
vector width, because they have neither a width nor a batch that fills whole vectors only.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.foreign_tensors import bidirectional
from support.odd_models import counter_package, timed_package
from support.onnx_models import lstm_package, rnn_package, table_package
from tidegate.errors import PackageError
from tidegate.model.package import read_package
from tidegate.runner import probe as probe_module
from tidegate.runner.graph import Graph
from tidegate.runner.probe import Exactness, probe

MAX_ROWS = 64


def probed(path: Path, max_rows: int = MAX_ROWS) -> Exactness:
    return probe(graph_of(path), max_rows=max_rows, max_steps=64)


def graph_of(path: Path) -> Graph:
    return Graph(read_package(path), device="cpu", threads=1)


def test_an_lstm_is_exact(tmp_path: Path) -> None:
    assert probed(lstm_package(tmp_path, hidden=7), max_rows=300) == Exactness(rows=True, steps=True)


def test_a_softplus_is_found(tmp_path: Path) -> None:
    found = probed(lstm_package(tmp_path, hidden=7, tail="Softplus"))

    assert not found.rows
    assert not found.steps
    assert "2 rows together differ from the same rows alone" in found.detail


def test_an_onnx_rnn_node_is_found(tmp_path: Path) -> None:
    found = probed(rnn_package(tmp_path))

    assert not found.rows
    assert "rows together differ" in found.detail


def test_an_operator_that_differs_only_in_long_chunks_of_one_row_is_found(tmp_path: Path) -> None:
    path = timed_package(tmp_path, "cos", "Cos", width=5)
    x = np.random.default_rng(0).uniform(-3, 3, (1, 64, 5)).astype(np.float32)
    graph, state = graph_of(path), [np.zeros((1, 5), np.float32)]
    chunk = graph.run([x], state)[0][0]
    steps = np.concatenate([graph.run([x[:, t : t + 1]], state)[0][0] for t in range(64)], axis=1)
    assert chunk.tobytes() != steps.tobytes(), "this build's Cos is exact: choose another operator"

    found = probed(path)

    assert not found.steps
    assert "steps at once differ from one by one" in found.detail


def test_rounding_is_told_from_a_graph_that_looks_ahead(tmp_path: Path) -> None:
    rounding = probed(lstm_package(tmp_path, hidden=7, tail="Softplus"))
    ahead = probed(bidirectional().package(tmp_path))

    assert 0 < rounding.steps_gap < 1e-5
    assert not rounding.looks_ahead
    assert 0.01 < ahead.steps_gap < 10
    assert ahead.looks_ahead
    assert "more than rounding: a state pair is wrong, or the graph looks ahead" in ahead.detail


def test_a_probe_of_one_width_would_miss_what_the_many_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = graph_of(timed_package(tmp_path, "softplus", "Softplus", width=1))
    assert not probe(graph, max_rows=64, max_steps=64).rows

    monkeypatch.setattr(probe_module, "WIDTHS", (2,))

    assert probe(graph, max_rows=2, max_steps=64).rows


def test_the_widest_batch_of_the_engine_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []
    graph = graph_of(counter_package(tmp_path))
    run = graph.run
    monkeypatch.setattr(graph, "run", lambda x, s: (widths.append(len(x[0])), run(x, s))[1])

    found = probe(graph, max_rows=1000, max_steps=64)

    assert found.exact
    assert max(widths) == 1000


def test_the_longest_chunk_of_the_engine_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = []
    graph = graph_of(timed_package(tmp_path, "tanh", "Tanh", width=1))
    run = graph.run
    monkeypatch.setattr(graph, "run", lambda x, s: (chunks.append(x[0].shape[1]), run(x, s))[1])

    probe(graph, max_rows=2, max_steps=200)

    assert max(chunks) == 200


def test_a_graph_for_one_row_is_probed_without_batches(tmp_path: Path) -> None:
    assert probed(counter_package(tmp_path, batch=False)).exact


def test_a_server_that_never_batches_probes_no_batch(tmp_path: Path) -> None:
    assert probed(rnn_package(tmp_path), max_rows=1).rows


def test_whole_numbers_are_drawn_from_every_tables_range(tmp_path: Path) -> None:
    assert probed(table_package(tmp_path, size=2)).exact


def test_a_graph_that_takes_no_drawn_number_is_refused_by_name(tmp_path: Path) -> None:
    graph = graph_of(table_package(tmp_path, size=1))

    with pytest.raises(
        PackageError, match="table/1: a run on random inputs fails; `typical` tells the range"
    ):
        probe(graph, max_rows=8, max_steps=64)
