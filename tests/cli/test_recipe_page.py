"""docs/recipe.md is made from the code, has every key of every recipe, and stays so."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from tidegate.cli.recipe_page import TABLES, page, recipe_page

ROOT = Path(__file__).parents[2]


def test_the_page_in_the_repository_is_up_to_date() -> None:
    done = CliRunner().invoke(recipe_page, ["--check", str(ROOT / "docs" / "recipe.md")])

    assert (done.exit_code, done.output) == (0, "")


@pytest.mark.parametrize("model", TABLES.values(), ids=lambda model: model.__name__)
def test_every_key_that_is_no_table_is_told_with_a_text(model: type[BaseModel]) -> None:
    tables = {"data", "time", "network", "linear", "forecast", "anomaly", "training"}

    told = page()

    for name, field in model.model_fields.items():
        if name not in tables:
            assert field.description, name
            assert f"- `{name}`: " in told


def test_bounds_choices_and_defaults_are_told() -> None:
    told = page()

    assert "- `cell_share`: number, above 0, below 1; default `0.4`." in told
    assert '- `device`: one of `"cpu"`, `"cuda"`, `"auto"`; default `"cpu"`.' in told
    assert "- `season_steps`: whole number, at least 1; required." in told
    assert "- `validation_from`: date or date and time; required." in told
