"""`tidegate serve`: put the settings together and run the server until it is told to stop."""

from __future__ import annotations

from pathlib import Path

import click

from tidegate.cli.settings_options import settings_options
from tidegate.config import load_settings


@click.command
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file with settings; TIDEGATE_CONFIG names one too.",
)
@settings_options
def serve(config: Path | None, **flags: str | None) -> None:
    """Serve the models of a repository over gRPC.

    Each option can also be set by an environment variable (--grpc-port by TIDEGATE_GRPC_PORT) or by
    a key of the settings file (grpc_port); a flag beats the environment, the environment the file.
    SIGTERM and Ctrl-C drain: frames in flight are answered, then the server stops.
    """
    settings = load_settings({name: value for name, value in flags.items() if value is not None}, config)

    from tidegate.app import serve as run_until_stopped

    run_until_stopped(settings)
