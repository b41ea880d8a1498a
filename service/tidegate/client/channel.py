"""How the client reaches a server: address, credentials, message sizes, keepalive."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
import grpc.aio

from tidegate.errors import InvalidRequest

DEFAULT_ADDRESS = "127.0.0.1:8001"


@dataclass(frozen=True, kw_only=True)
class ChannelOptions:
    """What may be chosen about the connection."""

    credentials: grpc.ChannelCredentials | None = None
    """TLS, as `grpc.ssl_channel_credentials()` makes it. None: plain text."""

    max_message_bytes: int = 64 * 1024 * 1024
    """Longest message that is accepted from the server."""

    keepalive_time_s: float = 30.0
    """Time between HTTP/2 pings while a stream is open and quiet; finds a server that went away without a word."""

    keepalive_timeout_s: float = 10.0
    """A connection that does not answer a ping within this time is lost."""


def connect(address: str, options: ChannelOptions) -> grpc.aio.Channel:
    """A channel to `address`; nothing is sent yet.

    Raises:
        InvalidRequest: `address` is not `host:port`.
    """
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise InvalidRequest(f"address: expected host:port, got {address!r}")
    arguments = [
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.max_send_message_length", -1),  # the server's limit is kept, see outbox.py
        ("grpc.keepalive_time_ms", round(options.keepalive_time_s * 1000)),
        ("grpc.keepalive_timeout_ms", round(options.keepalive_timeout_s * 1000)),
        # The time that a ping may take has a default of its own, 60 s, beside that of keepalive.
        ("grpc.http2.ping_timeout_ms", round(options.keepalive_timeout_s * 1000)),
        ("grpc.http2.max_pings_without_data", 0),
        # gRPC's own pauses between attempts (1 s to 2 minutes) would come on top of ours, see recovery.py;
        # an attempt that nobody answers ends after 5 s instead of 20.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.min_reconnect_backoff_ms", 5000),
        # A step must not be sent twice behind the library's back.
        ("grpc.enable_retries", 0),
        # Two clients of one process are two connections: one stalled reader must not hold up the other.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if options.credentials is None:
        return grpc.aio.insecure_channel(address, arguments)
    return grpc.aio.secure_channel(address, options.credentials, arguments)
