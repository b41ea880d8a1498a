"""docs/configuration.md is made from the code and stays so."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from tidegate.cli.configuration_page import EXAMPLE, configuration_page
from tidegate.config import ServerSettings, load_settings

ROOT = Path(__file__).parents[2]


def test_the_page_in_the_repository_is_up_to_date() -> None:
    done = CliRunner().invoke(configuration_page, ["--check", str(ROOT / "docs" / "configuration.md")])

    assert (done.exit_code, done.output) == (0, "")


def test_a_written_page_is_up_to_date(tmp_path: Path) -> None:
    page = str(tmp_path / "configuration.md")

    written = CliRunner().invoke(configuration_page, [page])
    checked = CliRunner().invoke(configuration_page, ["--check", page])

    assert (written.exit_code, checked.exit_code) == (0, 0)


@pytest.mark.parametrize("content", [None, "# Configuration\n"])
def test_a_page_that_differs_or_is_missing_is_refused_and_left_alone(
    tmp_path: Path, content: str | None
) -> None:
    page = tmp_path / "configuration.md"
    if content is not None:
        page.write_text(content)

    done = CliRunner().invoke(configuration_page, ["--check", str(page)])

    assert done.exit_code == 1
    assert "run `make docs`" in done.output
    assert (page.read_text() if page.exists() else None) == content


def test_the_page_has_every_setting_under_its_three_names(tmp_path: Path) -> None:
    page = tmp_path / "configuration.md"
    CliRunner().invoke(configuration_page, [str(page)])

    text = page.read_text()
    for name in ServerSettings.model_fields:
        assert f"\n### {name}\n" in text
        assert f"`--{name.replace('_', '-')}`" in text
        assert f"`TIDEGATE_{name.upper()}`" in text


def test_the_example_is_a_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "tidegate.toml"
    path.write_text(EXAMPLE)

    assert load_settings({}, path).max_sessions == 200_000
