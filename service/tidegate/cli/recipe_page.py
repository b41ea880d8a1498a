"""Writes docs/recipe.md from what a recipe may say: `python -m tidegate.cli.recipe_page FILE`.

`make docs` calls it, and `make check` calls it with `--check`, so that page and code cannot differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from tidegate.cli.configuration_page import keep_page
from tidegate.training.data_recipe import Column, DataRecipe
from tidegate.training.network_recipe import LinearRecipe, NetworkRecipe
from tidegate.training.recipe import AnomalyRecipe, ForecastRecipe, Recipe
from tidegate.training.training_recipe import TrainingRecipe

Schema = Mapping[str, Any]

TABLES: Mapping[str, type[BaseModel]] = {
    "": Recipe,
    "[data]": DataRecipe,
    "data.columns, each": Column,
    "[network]": NetworkRecipe,
    "[network.linear]": LinearRecipe,
    "[forecast]": ForecastRecipe,
    "[anomaly]": AnomalyRecipe,
    "[training]": TrainingRecipe,
}
"""By title, in the order of the page."""

KINDS = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}
"""JSON Schema's words, for people."""

BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}

_INTRODUCTION = """\
# Keys of a recipe

<!-- Made from the classes of service/tidegate/training/*recipe.py by `make docs`. -->

What `tidegate train` takes; see [training.md](training.md) for what it makes of it. `[network]` and `[training]` may be left out, and
so may `[anomaly]` and `[network.linear]`, without which there is no score and no linear part. `[data.time]` is `[time]` of the manifest, see [model-package.md](model-package.md); `column` is required in it.
"""


def page() -> str:
    """The whole page, in Markdown."""
    return _INTRODUCTION + "".join(_table(title, model) for title, model in TABLES.items())


@click.command
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the file is not up to date.")
def recipe_page(file: Path, check: bool) -> None:
    """Write the page to FILE."""
    keep_page(file, page(), check=check)


def _table(title: str, model: type[BaseModel]) -> str:
    keys = "".join(_key(name, *parts) for name, *parts in _keys(model))
    return f"\n## {title or 'At the top'}\n\n{keys}"


def _keys(model: type[BaseModel]) -> Iterator[tuple[str, str, str, str]]:
    """Name, kind, default and text of each key that is no table of the page."""
    schema = model.model_json_schema()
    for name, key in schema["properties"].items():
        kind = _kind(key)
        if kind:
            default = "required" if name in schema.get("required", ()) else _default(key)
            yield name, kind, default, " ".join(key.get("description", "").split())


def _key(name: str, kind: str, default: str, text: str) -> str:
    facts = f"- `{name}`: {kind}; {default}."
    return f"{facts} {text}\n" if text else f"{facts}\n"


def _default(key: Schema) -> str:
    default = key.get("default")
    return "not set by default" if default in (None, "") else f"default `{json.dumps(default)}`"


def _kind(key: Schema) -> str:
    """What a value is; empty for a table."""
    if "anyOf" in key:
        return " or ".join(dict.fromkeys(filter(None, map(_kind, key["anyOf"]))))
    if "enum" in key:
        return "one of " + ", ".join(f'`"{value}"`' for value in key["enum"])
    if key.get("type") == "array":
        return f"list of {_kind(key['items'])}" if _kind(key["items"]) else "list of tables"
    if "format" in key:
        return {"date": "date", "date-time": "date and time"}[key["format"]]
    kind = KINDS.get(key.get("type", ""), "")
    bounds = [f"{text} {_number(key[bound])}" for bound, text in BOUNDS.items() if bound in key]
    return ", ".join([kind, *bounds]) if kind else ""


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


if __name__ == "__main__":
    recipe_page()
