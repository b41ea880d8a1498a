"""Processes that are measured: pinned to a core from the start, their CPU time and memory read from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from bench.errors import BenchError
from bench.machine import on_core

STOP_TIMEOUT_S = 30.0
ROOT = Path(__file__).resolve().parents[1]
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class PinnedProcess:
    """A Python module running as a process on one core; use it in a `with` statement."""

    def __init__(
        self, core: int, module: str, arguments: Sequence[str], *, log: Path, talks: bool = False
    ) -> None:
        """Start it.

        Args:
            core: Where it and all of its threads run.
            module: As for `python -m`.
            arguments: Its command line.
            log: Its standard error goes here, and its standard output unless it talks.
            talks: Its standard input and output are pipes to us.
        """
        self._log = log
        channel = subprocess.PIPE if talks else None
        with log.open("ab") as file, on_core(core):
            self.process = subprocess.Popen(  # noqa: S603 - our own modules
                [sys.executable, "-m", module, *arguments],
                stdin=channel or subprocess.DEVNULL,
                stdout=channel or file,
                stderr=file,
                cwd=ROOT,
                # Shipped defaults, whatever the caller's environment sets.
                env={k: v for k, v in os.environ.items() if not k.startswith("TIDEGATE_")},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def cpu_s(self) -> float:
        """CPU-seconds used so far, user and system, of all threads, in steps of a clock tick (10 ms)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def rss_bytes(self) -> int:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def check_running(self) -> None:
        """Raise BenchError, with the end of its log, if it has ended."""
        if self.process.poll() is not None:
            raise BenchError(f"exit code {self.process.returncode}:\n{self._log.read_text()[-4000:]}")

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Ask it to end (SIGTERM) and wait."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()


class Worker(PinnedProcess):
    """A process that does one thing at a time and reports it: a line of JSON in, a line of JSON out."""

    def __init__(self, core: int, module: str, arguments: Sequence[str], *, log: Path) -> None:
        super().__init__(core, module, arguments, log=log, talks=True)

    def ask(self, **request: float) -> dict[str, Any]:
        """Have it do something and wait for what it found.

        Raises:
            BenchError: It ended instead.
        """
        requests, answers = self.process.stdin, self.process.stdout
        assert requests is not None
        assert answers is not None
        requests.write(json.dumps(request).encode() + b"\n")
        requests.flush()
        line = answers.readline()
        if not line:
            self.process.wait()
            self.check_running()
        found: dict[str, Any] = json.loads(line)
        return found


def answer(found: dict[str, Any], to: IO[str] = sys.stdout) -> None:
    """A worker's side of `Worker.ask`."""
    print(json.dumps(found), file=to, flush=True)
