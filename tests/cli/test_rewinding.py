"""Lines of a pipe can be read a second time, those that were read and no others."""

from __future__ import annotations

import pytest

from tidegate.cli.rewinding import MAX_MEMORY_BYTES, Rewindable

LINES = ["a,b\n", "\n", '"ü\r\n', 'x",1\r\n', "3,4\n", "last"]


@pytest.mark.parametrize("num_read", range(len(LINES) + 1))
def test_what_was_read_comes_again_and_then_the_rest(num_read: int) -> None:
    with Rewindable(iter(LINES)) as lines:
        first = [next(lines) for _ in range(num_read)]
        lines.rewind()

        assert (first, list(lines)) == (LINES[:num_read], LINES)


def test_lines_that_are_not_read_again_are_not_kept() -> None:
    with Rewindable(iter(LINES)) as lines:
        lines.go_on()

        assert list(lines) == LINES
        assert lines._kept.tell() == 0


def test_more_than_memory_should_hold_comes_again_from_a_file() -> None:
    line = "1" * 1024 * 1024 + "\n"
    with Rewindable(line for _ in range(20)) as lines:
        assert sum(map(len, lines)) > MAX_MEMORY_BYTES
        lines.rewind()

        assert all(again == line for again in lines)
