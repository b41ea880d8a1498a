"""Both ways to keep states are measured."""

from __future__ import annotations

from bench.places import show


def test_each_way_has_a_line_for_each_size_of_batch() -> None:
    lines: list[str] = []

    show(num_sessions=300, num_moves=2, write=lines.append)

    assert [line.split(" rows")[0].split()[-1] for line in lines] == ["1", "256", "1", "256"]
    assert sum(line.startswith("ONNX Runtime") for line in lines) == 2
