"""The `tidegate` command: its commands by name, and how each of them ends.

A command is imported when it is called, so the base install has all of them in its help, and one
whose libraries are missing says which extra brings them. Exit codes: 0 done, 1 an error that is told
in one line, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import NamedTuple, NoReturn

import click

from tidegate import __version__
from tidegate.errors import ConfigError, TidegateError

DEBUG_VARIABLE = "TIDEGATE_DEBUG"
"""Set to 1, an error is shown with its traceback."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""


class Target(NamedTuple):
    """Where a command is, and what the help says of it before it is imported."""

    module: str
    attribute: str
    summary: str


COMMANDS: Mapping[str, Target] = {
    "serve": Target("tidegate.cli.serve", "serve", "Serve the models of a repository over gRPC."),
    "stream": Target("tidegate.cli.stream", "stream", "Feed a CSV file to a session, one answer per row."),
    "train": Target("tidegate.cli.train", "train", "Train a model by a recipe and write its package."),
    "evaluate": Target("tidegate.cli.evaluate", "evaluate", "Score the forecasts of a package on a file."),
    "models": Target(
        "tidegate.cli.models", "models", "Look at models, on a server or in packages, and import them."
    ),
    "sessions": Target(
        "tidegate.cli.sessions", "sessions", "Look at the sessions of a server, copy them, and end them."
    ),
    "forecast": Target(
        "tidegate.cli.forecast", "forecast", "Forecast the next steps of a session, which does not advance."
    ),
    "inspect": Target(
        "tidegate.cli.inspect", "inspect", "Draw the gates and memories of a session's layers."
    ),
}

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "server": (
        "onnxruntime",
        "aiohttp",
        "grpc_health",
        "grpc_reflection",
        "prometheus_client",
        "structlog",
        "uvloop",
        "watchfiles",
    ),
    "train": ("torch", "onnx", "threadpoolctl"),
    "plot": ("matplotlib", "plotext"),
}
"""For each extra of the package, the modules that come with it."""


class LazyGroup(click.Group):
    """A group that imports a command when it is called, and not for the list of them."""

    # The signatures are click's.
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command; None if there is none of this name."""
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        with _naming_the_extra(lambda: cmd_name):
            command = getattr(import_module(target.module), target.attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, target.summary) for name, target in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was called."""
        # The command is known only once click has parsed it, inside the block.
        with _naming_the_extra(lambda: ctx.invoked_subcommand):
            return super().invoke(ctx)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="tidegate %(version)s")
def root() -> None:
    """Serve recurrent models over gRPC, one time step at a time, with their state on the server."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        args: What follows `tidegate`; None takes it from the process.
    """
    sys.exit(_run(args))


def _run(args: Sequence[str] | None) -> int:
    try:
        result = root.main(args, prog_name="tidegate", standalone_mode=False)
    except TidegateError as error:
        if os.environ.get(DEBUG_VARIABLE) == "1":
            raise
        click.echo(f"error: {error}", err=True)
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    return result if isinstance(result, int) else 0  # an int is the code of a click.exceptions.Exit


@contextmanager
def _naming_the_extra(command: Callable[[], str | None]) -> Iterator[None]:
    """Turn the lack of a library into the lack of the extra that brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        extra = next((extra for extra, modules in EXTRAS.items() if missing in modules), None)
        if extra is None:
            raise
        raise ConfigError(
            f"tidegate {command()} needs the {extra} extra: pip install 'tidegate[{extra}]'"
        ) from error
