"""Options are the fields of the settings, no more and no less."""

import click
from click.testing import CliRunner

from tidegate.cli.settings_options import Setting, describe_settings, settings_options
from tidegate.config import ServerSettings, load_settings


@click.command
@settings_options
def given(**flags: str | None) -> None:
    """Print the flags that were given."""
    click.echo({name: value for name, value in flags.items() if value is not None})


def setting(name: str) -> Setting:
    (found,) = [s for s in describe_settings() if s.name == name]
    return found


def test_every_field_has_a_flag_and_every_flag_a_field() -> None:
    flags = {option for parameter in given.params for option in parameter.opts}

    assert flags == {"--" + name.replace("_", "-") for name in ServerSettings.model_fields}


def test_a_flag_that_is_not_used_leaves_the_field_to_the_environment() -> None:
    done = CliRunner().invoke(given, ["--grpc-port", "9001"])

    assert done.output == "{'grpc_port': '9001'}\n"


def test_every_flag_is_taken_as_its_default_is_written() -> None:
    written = {s.name: s.default for s in describe_settings() if s.default is not None}

    assert load_settings(written).model_dump() == load_settings({}).model_dump()


def test_the_help_of_a_flag_is_the_text_of_its_field_with_the_default() -> None:
    output = " ".join(CliRunner().invoke(given, ["--help"]).output.split())

    assert "--grpc-port INTEGER Port for gRPC; 0 takes a free one and logs it. [default: 8001]" in output
    assert "--device [auto|cpu|cuda]" in output
    assert "--ready-file PATH" in output


def test_bounds_are_said_in_words() -> None:
    names = ("grpc_port", "max_sessions", "drain_grace_s", "grpc_host")

    assert [setting(name).bounds for name in names] == ["0 to 65535", "at least 1", "more than 0", ""]


def test_a_setting_knows_its_three_names() -> None:
    port = setting("grpc_port")

    assert (port.flag, port.variable, port.name) == ("--grpc-port", "TIDEGATE_GRPC_PORT", "grpc_port")
