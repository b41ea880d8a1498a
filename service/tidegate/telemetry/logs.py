"""The shape of the log: JSON lines for machines, one readable line for people, always to stderr.

Modules use `logging.getLogger(__name__)` and put facts in `extra`; each becomes a key of the line:

    log.info("model loaded", extra={"model": "co2", "version": "1"})

Called once, by whoever starts the process.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]

QUIETED = ("grpc", "aiohttp", "asyncio", "watchfiles")
"""Libraries whose messages below a warning are of no use to an operator."""


def configure_logging(level: LogLevel, format: LogFormat) -> None:  # noqa: A002 - the setting's name
    """Send the log of the whole process to stderr, replacing what was configured before.

    Args:
        level: Least severe message that is logged.
        format: "auto" is "console" on a terminal and "json" elsewhere.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(format))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in QUIETED:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))


def _formatter(shape: LogFormat) -> structlog.stdlib.ProcessorFormatter:
    """A formatter of standard records with time, level, logger and the facts of `extra`."""
    console = sys.stderr.isatty() if shape == "auto" else shape == "console"
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *(_for_people() if console else _for_machines()),
        ],
    )


def _for_people() -> list[structlog.typing.Processor]:
    # The default formatter of exceptions prints the values of variables, inputs of clients among them.
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    ]


def _for_machines() -> list[structlog.typing.Processor]:
    return [
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(),
    ]
