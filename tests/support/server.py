"""A real server: a process of its own, on free ports, with its log in a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.01
LOG_TAIL_CHARS = 4000

MODELS = Path(__file__).resolve().parents[2] / "models"
"""The repository's own models, with the demo package."""


class ServerProcess:
    """`tidegate serve` as a process; use it as `with ServerProcess(...)`.

    Attributes:
        grpc_port: Where gRPC listens.
        http_port: Where metrics and probes listen.
        log_path: What the server writes to stdout and stderr.
    """

    def __init__(self, models: Path, folder: Path, *flags: str, **environment: str) -> None:
        """Start the server and wait until it is ready.

        Args:
            models: Model repository.
            folder: For the log and the ready file.
            flags: Further flags of `tidegate serve`.
            environment: Further environment variables.

        Raises:
            AssertionError: It ended, or was not ready in time; holds the end of its log.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / "server.log"
        ready_file = folder / "ready.json"
        ready_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "tidegate.cli", "serve", "--models", str(models)]
        command += ["--grpc-port", "0", "--http-port", "0", "--ready-file", str(ready_file), *flags]
        if "--store" not in flags:
            command += ["--store", f"sqlite:///{folder.absolute()}/sessions.db"]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )
        ports = self._wait_until_ready(ready_file)
        self.grpc_port: int = ports["grpc_port"]
        self.http_port: int = ports["http_port"]

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()

    @property
    def address(self) -> str:
        """Where gRPC listens, as clients want it."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def http_url(self) -> str:
        """Where `/metrics`, `/healthz` and `/readyz` are."""
        return f"http://127.0.0.1:{self.http_port}"

    def rss_bytes(self) -> int:
        """Memory that the process holds at this moment."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def log(self) -> str:
        """What the server has said so far."""
        return self.log_path.read_text(errors="replace")

    def stop(self) -> int:
        """Ask the server to stop (SIGTERM) and wait for it.

        Returns:
            Its exit code.
        """
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"the server did not stop within {STOP_TIMEOUT_S} s of SIGTERM:\n{self._log_tail()}"
            ) from None

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL)."""
        self.process.kill()
        self.process.wait()

    def _wait_until_ready(self, ready_file: Path) -> dict[str, int]:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if ready_file.exists():
                ports: dict[str, int] = json.loads(ready_file.read_text())
                return ports
            if self.process.poll() is not None:
                raise AssertionError(f"the server exited with {self.process.returncode}:\n{self._log_tail()}")
            time.sleep(POLL_S)
        self.kill()
        raise AssertionError(f"the server was not ready after {READY_TIMEOUT_S} s:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        return self.log()[-LOG_TAIL_CHARS:]
