"""The fields of `ServerSettings` as command-line options.

A setting is written once, in `tidegate.config`: its flag, its help, its choices and its default come
from there. Values go to the settings as text, so a flag, a variable and a key of the file obey the
same rules; only a choice is checked by click, which then lists the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import click

from tidegate.config import ENV_PREFIX, ServerSettings

P = ParamSpec("P")
R = TypeVar("R")

_KINDS: Mapping[str, str] = {
    "integer": "integer",
    "number": "number",
    "string": "text",
    "boolean": "text",
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A field of the settings, as an operator sees it.

    Attributes:
        name: Name of the field, and its key in a settings file.
        text: What it does, in Markdown.
        kind: "integer", "number", "text" or "path".
        bounds: What values are allowed beyond that, e.g. "0 to 65535"; "" for all.
        choices: The values allowed, if they are few.
        default: None if nothing is set.
    """

    name: str
    text: str
    kind: str
    bounds: str
    choices: tuple[str, ...]
    default: str | None

    @property
    def flag(self) -> str:
        """The option of `tidegate serve`."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return ENV_PREFIX + self.name.upper()


def describe_settings() -> list[Setting]:
    """Every setting, in the order of the fields."""
    properties = ServerSettings.model_json_schema()["properties"]
    return [_setting(name, schema) for name, schema in properties.items()]


def settings_options(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command an option for every setting; one that is not used arrives as None."""
    for setting in reversed(describe_settings()):
        command = _option(setting)(command)
    return command


def _option(setting: Setting) -> Callable[[Callable[P, R]], Callable[P, R]]:
    default = "not set" if setting.default is None else setting.default
    return click.option(
        setting.flag,
        setting.name,
        type=click.Choice(setting.choices) if setting.choices else str,
        metavar=None if setting.choices else setting.kind.upper(),
        help=f"{setting.text.replace('`', '')}  [default: {default}]",
    )


def _setting(name: str, schema: Mapping[str, Any]) -> Setting:
    value = next((s for s in schema.get("anyOf", ()) if s["type"] != "null"), schema)
    default = schema["default"]
    return Setting(
        name=name,
        text=" ".join(schema["description"].split()),
        kind="path" if value.get("format") == "path" else _KINDS[value["type"]],
        bounds=_bounds(value),
        choices=("true", "false") if value["type"] == "boolean" else tuple(value.get("enum", ())),
        default=None if default is None else _shown(default),
    )


def _shown(default: object) -> str:
    """A default as a user writes it."""
    return str(default).lower() if isinstance(default, bool) else str(default)


def _bounds(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{low} to {high}"
    if low is not None:
        return f"at least {low}"
    if "exclusiveMinimum" in schema:
        return f"more than {schema['exclusiveMinimum']:g}"
    return ""
