"""What can go wrong with an address to listen on, as the operator is told of it."""

from __future__ import annotations

import errno
import socket
from typing import Literal

from tidegate.errors import ConfigError

Door = Literal["grpc", "http"]
"""Whose address it is: the settings are `<door>_host` and `<door>_port`."""


def check_address(door: Door, host: str, port: int) -> None:
    """Listen for a moment, because gRPC does not say why it cannot.

    Raises:
        ConfigError: The address cannot be listened on.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, *_, address in found:
            socket.create_server(address, family=family).close()
    except OSError as error:
        raise unusable(door, host, port, error) from error


def unusable(door: Door, host: str, port: int, error: OSError) -> ConfigError:
    """The error for an address that cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return ConfigError(f"--{door}-port: {host}:{port} is in use")
    if error.errno == errno.EACCES:
        return ConfigError(f"--{door}-port: {host}:{port} needs a privilege that this process does not have")
    return ConfigError(f"--{door}-host: cannot listen on {host}:{port}: {error.strerror or error}")
