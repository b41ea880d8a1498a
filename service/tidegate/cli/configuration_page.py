"""Writes docs/configuration.md from the settings: `python -m tidegate.cli.configuration_page FILE`.

`make docs` calls it, and `make check` calls it with `--check`, so that page and code cannot differ.
"""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path

import click

from tidegate.cli.settings_options import Setting, describe_settings

EXAMPLE = """\
models = "/srv/models"
grpc_host = "0.0.0.0"
http_host = "0.0.0.0"
max_sessions = 200_000
detached_idle_timeout_s = 86_400
log_format = "json"
"""
"""A settings file that an operator could start from."""

_INTRODUCTION = f"""\
# Configuration

<!-- Made from service/tidegate/config.py by `make docs`. -->

A setting of the server is a flag of `tidegate serve`, an environment variable, or a key of a TOML
file. Where more than one is given, the first of these counts:

1. the flag, `--grpc-port 9001`
2. the environment variable, `TIDEGATE_GRPC_PORT=9001`
3. the settings file, `grpc_port = 9001`
4. the default

The file is named by `--config FILE` or by `TIDEGATE_CONFIG`; the flag wins. A key that does not exist,
or a value out of range, stops the server at start with one line that says where it was set. For
example:

```toml
{EXAMPLE}```

`TIDEGATE_DEBUG=1` makes every command show the traceback of an error.

## Settings
"""

_STALE_LINES = 20


def page() -> str:
    """The whole page, in Markdown."""
    return _INTRODUCTION + "".join(_section(setting) for setting in describe_settings())


@click.command
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the file is not up to date.")
def configuration_page(file: Path, check: bool) -> None:
    """Write the page to FILE."""
    keep_page(file, page(), check=check)


def keep_page(file: Path, text: str, *, check: bool) -> None:
    """Write a page that is made from the code, or look whether it is up to date.

    Raises:
        ClickException: It is to be checked, and differs.
    """
    if not check:
        file.write_text(text, encoding="utf-8")
        return
    found = file.read_text(encoding="utf-8") if file.is_file() else ""
    diff = list(unified_diff(found.splitlines(), text.splitlines(), str(file), "from the code", lineterm=""))
    if diff:
        click.echo("\n".join(diff[:_STALE_LINES]), err=True)
        raise click.ClickException(f"{file} is not up to date: run `make docs`")


def _section(setting: Setting) -> str:
    default = "not set" if setting.default is None else f"`{setting.default}`"
    facts = (f"`{setting.flag}`", f"`{setting.variable}`", _kind(setting), f"default {default}")
    return f"\n### {setting.name}\n\n{setting.text}\n\n{' · '.join(facts)}\n"


def _kind(setting: Setting) -> str:
    if setting.choices:
        return "one of " + ", ".join(f"`{choice}`" for choice in setting.choices)
    return f"{setting.kind}, {setting.bounds}" if setting.bounds else setting.kind


if __name__ == "__main__":
    configuration_page()
