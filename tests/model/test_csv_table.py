"""Files that are read whole have the rows that they have when they are streamed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.errors import ConfigError, InvalidRequest
from tidegate.model.csv_table import CsvTable, lines_of


@pytest.mark.parametrize("break_", ["\n", "\r\n", "\r"])
def test_no_character_but_a_line_break_ends_a_row(tmp_path: Path, break_: str) -> None:
    """Editors put some of these into notes, and not all that breaks lines elsewhere ends a row of a file."""
    path = tmp_path / "a.csv"
    notes = ["page\x0cbreak", "next\x85line", "line\u2028separator", '"two\nlines"', "record\x1eend"]
    path.write_text(break_.join(["a,note", *(f"1,{note}" for note in notes), ""]), newline="")

    whole = list(CsvTable(lines_of(path.read_bytes(), source="a.csv"), source="a.csv"))
    with path.open(encoding="utf-8", newline="") as file:
        streamed = list(CsvTable(file, source="a.csv"))

    assert whole == streamed == [["1", note.strip('"')] for note in notes]


def test_a_file_that_is_no_utf_8_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a\.csv: expected UTF-8 text: .* position 3"):
        lines_of(b"caf\xe9\n1\n", source="a.csv")


def test_a_row_is_as_wide_as_the_header_and_a_refused_one_can_be_looked_at() -> None:
    table = CsvTable(["\ufeffa , b\r\n", "1,2,3\n", "4,5\n"], source="a.csv")

    with pytest.raises(InvalidRequest, match="row 1: expected 2 cells, got 3"):
        next(table)

    assert table.newest == ["1", "2", "3"]
    assert (next(table), table.header, table.num_rows) == (["4", "5"], ("a", "b"), 2)
