"""What every measurement needs: cores, packages, durations, and a place for what it finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.echo import EchoServer
from bench.engine import EngineWorker
from bench.machine import Cores
from bench.models import LstmShape, write_lstm
from bench.raw import RawWorker
from bench.server import Server
from bench.storing import StoreWorker


@dataclass(frozen=True)
class Durations:
    """How long things are measured.

    Attributes:
        slice_s: One side's turn over gRPC.
        raw_s: One turn of raw ONNX Runtime.
        warmup_s: Before each turn over gRPC.
        rounds: Turns of each side; the median counts.
        soak_from_s: The first look at the memory of a soak.
        soak_to_s: The last one.
        sessions: What "a million" is.
        resume_after_s: Life of the server that is killed.
    """

    slice_s: float = 2.5
    raw_s: float = 1.0
    warmup_s: float = 0.5
    rounds: int = 5
    soak_from_s: float = 30.0
    soak_to_s: float = 180.0
    sessions: int = 1_000_000
    resume_after_s: float = 12.0


QUICK = Durations(
    slice_s=0.5,
    raw_s=0.2,
    warmup_s=0.2,
    rounds=3,
    soak_from_s=3.0,
    soak_to_s=8.0,
    sessions=100_000,
    resume_after_s=6.0,
)

Numbers = dict[str, Any]
"""Raw figures: numbers and lists of numbers by name."""


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    name: str
    value: float


@dataclass
class Setting:
    """One run of the bench.

    Attributes:
        cores: Where the two sides run.
        durations: How long they run.
        folder: For packages, logs and ready files.
        report: Told of every figure as soon as it is known.
        raw: What was measured, by figure; kept beside the table.
    """

    cores: Cores
    durations: Durations
    folder: Path
    report: Callable[[Figure], None]
    raw: dict[str, Numbers] = field(default_factory=dict)

    def package(self, model: LstmShape) -> Path:
        """A package of this shape, written the first time."""
        return write_lstm(self.folder / model.name, model)

    def server(self, model: LstmShape, *flags: str, name: str = "server", store: str = "") -> Server:
        """Start a tidegate server with this model alone, and a store of its own if none is named."""
        models = self.package(model).parents[1]
        return Server(self.cores.server, models, self.folder / name, flags, store)

    def echo(self) -> EchoServer:
        """Start the echo."""
        return EchoServer(self.cores.server, log=self.folder / "echo.log")

    def raw_worker(self, model: LstmShape) -> RawWorker:
        """Start raw ONNX Runtime."""
        return RawWorker(self.cores.server, self.package(model), log=self.folder / "raw.log")

    def engine_worker(self, model: LstmShape) -> EngineWorker:
        """Start the engine without a server."""
        return EngineWorker(self.cores.server, self.package(model), log=self.folder / "engine.log")

    def store_worker(self, model: LstmShape, store: Path, num_sessions: int) -> StoreWorker:
        """Start sessions and their store without a server."""
        log = self.folder / "storing.log"
        return StoreWorker(self.cores.server, self.package(model), store, num_sessions, log=log)

    def found(self, name: str, values: float | Sequence[float], **raw: Any) -> None:
        """Report a figure: one value, or the median of those of all rounds.

        Args:
            name: Of the figure.
            values: What was found.
            raw: Whatever it was made from.
        """
        rounds = [values] if isinstance(values, (int, float)) else list(values)
        self.raw[name] = {"rounds": rounds, **raw}
        self.report(Figure(name, median(rounds)))
