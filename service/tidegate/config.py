"""Settings of the server, from flags, environment, a TOML file, and defaults, in that order.

Every field is a flag of `tidegate serve` (`--grpc-port`), an environment variable
(`TIDEGATE_GRPC_PORT`) and a key of the file that `--config` or `TIDEGATE_CONFIG` names (`grpc_port`).
docs/configuration.md is made from this file.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from tidegate.errors import ConfigError

ENV_PREFIX = "TIDEGATE_"
CONFIG_VARIABLE = ENV_PREFIX + "CONFIG"

Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class ServerSettings(BaseSettings):
    """What an operator decides; each field's text says what it costs."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    models: Path = Path("models")
    """Model repository: a folder with `<name>/<version>/` packages. The newest version of every model is loaded at start."""

    grpc_host: str = "127.0.0.1"
    """Address that gRPC listens on. The container image sets 0.0.0.0."""

    grpc_port: Port = 8001
    """Port for gRPC; 0 takes a free one and logs it."""

    http_host: str = "127.0.0.1"
    """Address that `/metrics`, `/healthz` and `/readyz` listen on. The container image sets 0.0.0.0."""

    http_port: Port = 8002
    """Port for HTTP; 0 takes a free one and logs it."""

    watch_models: bool = True
    """Load versions that come to the repository while the server runs. Off, they are loaded when they are asked for by number."""

    unload_after_s: Seconds = 300.0
    """A loaded version that is not its model's newest is unloaded when no session in memory has needed it for this long; it is loaded again on demand, which takes seconds."""

    model_control: bool = True
    """Clients may load and unload models. Off, both doors refuse it with PERMISSION_DENIED; versions that sessions need are loaded all the same."""

    ready_file: Path | None = None
    """Write the two ports here as JSON once the server is ready; for scripts that start it on free ports."""

    store: Annotated[str, Field(pattern=r"^(memory:|sqlite:///.+)$")] = "sqlite:///tidegate.db"
    """Where sessions are kept. `sqlite:///file` is one file under the working directory, `sqlite:////path/file` one at a full path; `memory:` ends with the process."""

    store_full_sync: bool = False
    """Wait at every commit until the disk has it: what is durable then survives the loss of power, not only the death of the process. Costs a disk flush per commit."""

    checkpoint_age_s: Seconds = 5.0
    """Time in which all changed sessions are stored once. Less lets clients keep fewer inputs, and costs more CPU and disk."""

    checkpoint_bytes_per_s: Annotated[int, Field(ge=65536)] = 64 * 1024 * 1024
    """Most state that is stored in a second. What does not fit makes checkpoints older, see `tidegate_checkpoint_age_seconds`."""

    sequence_durability: Literal["before-answer", "background"] = "before-answer"
    """When answers to sequences of the Open Inference door leave. `before-answer`: once the state that they led to is stored; all that wait share a commit, and no crash repeats or loses a step. `background`: at once, and states are stored as all others; a sequence that may have lost answered steps in a crash is then refused with DATA_LOSS instead of going on wrong. Without a store that outlives the process there is nothing to wait for."""

    max_stored_sessions: Count = 10_000_000
    """Sessions that the store may know, those in memory included; past them none is created."""

    expire_after_s: Seconds = 7_776_000.0
    """A session without a stream that nobody has used for this long is given up, 90 days unless set; its id is kept as a tombstone."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where models run. `auto` takes CUDA where ONNX Runtime has it, `cuda` refuses to start without it."""

    intra_op_threads: Count = 1
    """Threads of ONNX Runtime inside one run. More than 1 pays only for models with thousands of units."""

    max_sessions: Count = 65536
    """Sessions in memory per model version; past them those without a stream that were used longest ago are left to the store. Their states are allocated and touched as the number grows, in chunks."""

    max_batch_size: Annotated[int, Field(ge=1, le=65536)] = 256
    """Rows in one model run. Batching pays up to about 64 rows; more makes single steps wait longer."""

    max_queue_delay_us: Annotated[int, Field(ge=0)] = 0
    """Longest a ready row waits for company, in microseconds. 0 never waits: a batch forms while the one before it runs."""

    max_slice_steps: Count = 32
    """Steps of a long history that run before others get their turn. Less is fairer, more is faster."""

    max_frame_rows: Count = 16384
    """Rows in one frame."""

    max_frame_steps: Count = 131072
    """Steps of each row in one frame."""

    max_open_sessions: Count = 65536
    """Sessions in one open or close message."""

    max_message_bytes: Annotated[int, Field(ge=4096, le=2**31 - 1)] = 64 * 1024 * 1024
    """Bytes of one gRPC message, in and out."""

    max_frames_in_flight: Count = 256
    """Frames of one stream that wait for their answers; past them the server reads no more of the stream until one is answered."""

    max_pending_bytes: Count = 1024 * 1024 * 1024
    """Bytes of inputs, opens and unsent answers of all streams together; past them a frame or an open is refused with RESOURCE_EXHAUSTED."""

    max_concurrent_calls: Count = 16384
    """Calls at work at the same time, streams and health watches included; past them a call is refused with RESOURCE_EXHAUSTED."""

    max_streams: Count = 4096
    """Streams open at a time; an idle one costs up to 100 kB."""

    detached_idle_timeout_s: Seconds = 3600.0
    """A session without a stream that nobody has stepped for this long leaves memory for the store, and comes back when it is used."""

    max_tombstones: Count = 100_000
    """Ids of lost and expired sessions that are remembered, so that nobody restarts one unknowingly. The oldest are forgotten first."""

    keepalive_time_s: Seconds = 30.0
    """Time between HTTP/2 pings on a quiet connection."""

    keepalive_timeout_s: Seconds = 10.0
    """A connection that does not answer a ping within this time is closed, and its sessions become detached."""

    drain_grace_s: Seconds = 20.0
    """After SIGTERM, time for frames in flight to be answered before connections are closed."""

    load_retry_s: Annotated[float, Field(ge=0.1)] = 1.0
    """The retry hint of answers with RESOURCE_EXHAUSTED, in seconds."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe message that is logged."""

    log_format: Literal["auto", "console", "json"] = "auto"
    """`auto` is console on a terminal and JSON lines elsewhere."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then environment, then file."""
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))


def load_settings(flags: Mapping[str, Any], config: Path | None = None) -> ServerSettings:
    """Put the settings together.

    Args:
        flags: Fields given on the command line, by field name.
        config: TOML file; overrides `TIDEGATE_CONFIG`.

    Raises:
        ConfigError: An unknown key, a value out of range, a file that cannot be read.
    """
    path = config or (Path(os.environ[CONFIG_VARIABLE]) if CONFIG_VARIABLE in os.environ else None)
    if path is not None and not path.is_file():
        raise ConfigError(f"{path}: no such settings file")

    class _WithFile(ServerSettings):
        model_config = SettingsConfigDict(toml_file=path)

    try:
        return _WithFile(**flags)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        raise ConfigError(_source(key, flags, path) + first_problem(error).removeprefix(key)) from error


def _source(key: str, flags: Mapping[str, Any], path: Path | None) -> str:
    """What to call a setting in an error: as its user wrote it, so that they find it."""
    variable = ENV_PREFIX + key.upper()
    if key in flags:
        return "--" + key.replace("_", "-")
    return variable if variable in os.environ else f"{path}: {key}"


def first_problem(error: ValidationError) -> str:
    """One line for the first of pydantic's findings: key, what is wrong, what was got."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    text = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        text = "there is no such key"
    is_told = isinstance(first["input"], dict) or ", got " in text
    got = "" if is_told else f", got {first['input']!r}"
    return f"{key}: {text}{got}" if key else f"{text}{got}"
