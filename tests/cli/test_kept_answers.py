"""What a killed `tidegate stream` left, read from its output file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.cli.kept_answers import KeptAnswers, note_first_step, read_kept
from tidegate.errors import ConfigError

COLUMNS = ["week", "forecast"]
HEADER = "week,forecast\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.csv"


def kept(path: Path, text: str) -> KeptAnswers | None:
    path.write_text(text, newline="")
    return read_kept(path, COLUMNS, has_time=True)


@pytest.mark.parametrize("text", ["", "week", "week,forecast", '"week\n'])
def test_without_a_whole_header_nothing_was_sent(path: Path, text: str) -> None:
    assert kept(path, text) is None


def test_a_file_that_is_not_there_holds_nothing(path: Path) -> None:
    assert read_kept(path, COLUMNS, has_time=True) is None


@pytest.mark.parametrize("half", ["", "c", "c,", "c,4.25", '"c\n', '"c ""quoted""\n'])
def test_a_half_written_line_is_no_row(path: Path, half: str) -> None:
    whole = HEADER + "a,1.0\nb,2.0\n"

    found = kept(path, whole + half)

    assert found is not None
    assert (found.num_bytes, found.answered, found.first_step) == (len(whole), b"\1\1", 0)


def test_a_skipped_row_is_a_row_and_no_step(path: Path) -> None:
    text = HEADER + 'a,1.0\nb,\n"c\nd",\ne,nan\n'

    found = kept(path, text)

    assert found is not None
    assert (found.num_bytes, found.answered) == (len(text), b"\1\0\0\1")
    assert [found.is_of(row, time) for row, time in enumerate(["a", "b", "c\nd", "e"])] == [True] * 4
    assert not found.is_of(0, "b")


def test_without_times_a_skipped_row_is_told_from_an_answer(path: Path) -> None:
    path.write_text('forecast\n1.0\n""\n')

    found = read_kept(path, ["forecast"], has_time=False)

    assert found is not None
    assert found.answered == b"\1\0"
    assert found.is_of(0, "whatever")


def test_the_first_step_is_noted_beside_the_file(path: Path) -> None:
    path.touch()
    note_first_step(path, 100)

    found = kept(path, HEADER + "a,1.0\n")

    assert found is not None
    assert found.first_step == 100


def test_a_file_that_begins_with_step_0_needs_no_note(path: Path) -> None:
    path.touch()
    note_first_step(path, 100)

    note_first_step(path, 0)

    assert list(path.parent.iterdir()) == [path]


def test_a_file_of_something_else_is_not_gone_on_with(path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a file of answers with the columns week, forecast"):
        kept(path, "name,price\napple,3\n")
    with pytest.raises(ConfigError, match="row 2: expected 2 cells, got 3"):
        kept(path, HEADER + "a,1.0\nb,2.0,3.0\n")
    with pytest.raises(ConfigError, match="row 1: new-line character"):
        kept(path, HEADER + "a\rb,1.0\n")


def test_a_note_that_is_no_number_is_refused(path: Path) -> None:
    path.with_name("answers.csv.first-step").write_text("soon")

    with pytest.raises(ConfigError, match="expected the number of a step"):
        kept(path, HEADER)
