"""The server that is measured: a real `tidegate serve` with its shipped defaults.

It keeps its sessions in a file, as shipped, which nobody wants afterwards: so it is killed instead of stopped.
"""

from __future__ import annotations

import json
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from bench.processes import PinnedProcess

READY_TIMEOUT_S = 60.0
POLL_S = 0.01


@dataclass(frozen=True)
class BatchCount:
    """Model runs so far, and the rows in them."""

    runs: float
    rows: float


class Server(PinnedProcess):
    """`tidegate serve` on free ports.

    Attributes:
        address: Where gRPC listens.
    """

    def __init__(
        self, core: int, models: Path, folder: Path, flags: Sequence[str] = (), store: str = ""
    ) -> None:
        """Start it and wait until it is ready.

        Args:
            core: Where it runs.
            models: Model repository.
            folder: For its log, its ready file and its store; one server at a time.
            flags: Of `tidegate serve`, beside the ports.
            store: Where sessions are kept; "" for a file that goes with the server.

        Raises:
            BenchError: It ended, or was not ready in time.
        """
        folder.mkdir(parents=True, exist_ok=True)
        ready_file = folder / "ready.json"
        ready_file.unlink(missing_ok=True)
        ports = ["--grpc-port", "0", "--http-port", "0", "--ready-file", str(ready_file)]
        self._scratch = tempfile.TemporaryDirectory(prefix="store-", dir=folder.resolve())
        places = [
            "--models",
            str(models),
            "--store",
            store or sqlite(Path(self._scratch.name, "tidegate.db")),
        ]
        arguments = ["serve", *places, *ports, *flags]
        super().__init__(core, "tidegate.cli", arguments, log=folder / "server.log")
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not ready_file.exists():
            self.check_running()
            if time.monotonic() > deadline:
                self.stop()
                raise BenchError(f"the server was not ready after {READY_TIMEOUT_S:g} s")
            time.sleep(POLL_S)
        found = json.loads(ready_file.read_text())
        self.address = f"127.0.0.1:{found['grpc_port']}"
        self._metrics_url = f"http://127.0.0.1:{found['http_port']}/metrics"

    def stop(self) -> None:
        """End it; its own store goes with it."""
        self.kill()
        self._scratch.cleanup()

    def metrics(self) -> dict[str, float]:
        """Every sample of `/metrics`, summed over its labels. Rendering them costs the server CPU time."""
        sums: dict[str, float] = {}
        with urllib.request.urlopen(self._metrics_url) as response:  # noqa: S310 - our own server
            for line in response.read().decode().splitlines():
                if not line.startswith("#"):
                    name, _, value = line.rpartition(" ")
                    name = name.partition("{")[0]
                    sums[name] = sums.get(name, 0.0) + float(value)
        return sums

    def batches(self) -> BatchCount:
        """Model runs so far."""
        metrics = self.metrics()
        return BatchCount(metrics["tidegate_batch_rows_count"], metrics["tidegate_batch_rows_sum"])

    def states_stored(self) -> float:
        """States of sessions that went to the store so far."""
        return self.metrics().get("tidegate_checkpoints_total", 0.0)


def sqlite(file: Path) -> str:
    """The URL of a store in this file."""
    return f"sqlite:///{file.resolve()}"
