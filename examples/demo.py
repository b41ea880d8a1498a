"""Serve the demo model, stream forty years of weekly CO2 measurements through it, draw the forecast.

    make demo

Starts `tidegate serve` on free ports, feeds `models/co2-weekly/co2.csv` to one session row by row, and
stops the server again. Every answer is a forecast of the next 26 weeks: [26 horizons, 3 quantiles].
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from demo_plot import Outlook, draw, sketch

from tidegate.client import Client
from tidegate.model.package import read_package
from tidegate.model.rows import Row, RowReader

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
SERIES = MODELS / "co2-weekly" / "co2.csv"
PICTURE = ROOT / "out" / "co2-forecast.png"

HELD_OUT_FROM = datetime(1996, 1, 1, tzinfo=UTC)
"""The recipe trains and validates on what is before."""

WEEKS_A_YEAR = 52
LINE_EVERY = 100
"""Steps between two lines where nobody watches a terminal."""

READY_TIMEOUT_S = 60


@dataclass
class Run:
    """What went in and what came out, one entry a step."""

    rows: list[Row] = field(default_factory=list)
    forecasts: list[np.ndarray] = field(default_factory=list)

    @property
    def values(self) -> np.ndarray:
        """What was measured, in ppm; a missing week repeats the last one."""
        return np.array([row.values[0].item() for row in self.rows])


def main() -> None:
    with server() as (address, metrics_url):
        run = stream_series(address)
        print(f"\nserver, per frame: {latency(metrics_url)} (from /metrics)")
    compare_with_naive(run)
    show_forecast(run)


@contextmanager
def server() -> Iterator[tuple[str, str]]:
    """A server with the repository's models, on free ports; its address and its metrics page."""
    with tempfile.TemporaryDirectory() as folder:
        ready, log = Path(folder, "ready.json"), Path(folder, "server.log")
        command = [sys.executable, "-m", "tidegate.cli", "serve", "--models", str(MODELS)]
        command += ["--store", "memory:", "--grpc-port", "0", "--http-port", "0", "--ready-file", str(ready)]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            ports = wait_until_ready(process, ready, log)
            print(f"server: gRPC on 127.0.0.1:{ports['grpc_port']}, metrics on port {ports['http_port']}")
            yield f"127.0.0.1:{ports['grpc_port']}", f"http://127.0.0.1:{ports['http_port']}/metrics"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def wait_until_ready(process: subprocess.Popen[bytes], ready: Path, log: Path) -> dict[str, int]:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the server did not start:\n{log.read_text()}")
        time.sleep(0.05)
    ports: dict[str, int] = json.loads(ready.read_text())
    return ports


def stream_series(address: str) -> Run:
    """Feed the series to a session, one step at a time, as a sensor would."""
    run = Run()
    with Client(address) as client, client.session("co2-weekly") as session, SERIES.open() as file:
        print(f"model: {session.model.label}, {session.model.description}\n")
        for row in rows_of(file, session.model.version):
            started = time.perf_counter()
            forecast = session.step(row.values[0])
            latency_ms = (time.perf_counter() - started) * 1000
            run.rows.append(row)
            run.forecasts.append(forecast)
            show_step(row, forecast, latency_ms)
    show_step(row, forecast, latency_ms, is_last=True)
    return run


def rows_of(lines: Iterator[str], version: str) -> RowReader:
    """The series as the package's manifest reads it: which column, which cadence, what if one is missing."""
    manifest = read_package(MODELS / "co2-weekly" / version).manifest
    return RowReader(lines, manifest.inputs, manifest.time, source=str(SERIES))


def show_step(row: Row, forecast: np.ndarray, latency_ms: float, *, is_last: bool = False) -> None:
    low, middle, high = forecast[0]
    line = (
        f"step {row.number - 1:4}  {row.values[0].item():.1f} ppm  "
        f"next week {middle:.1f} ({low:.1f} … {high:.1f})  {latency_ms:.1f} ms"
    )
    if sys.stdout.isatty():
        print(f"\r{line:72}", end="\n" if is_last else "", flush=True)
    elif is_last or row.number % LINE_EVERY == 1:
        print(line, flush=True)


def latency(metrics_url: str) -> str:
    """Median and 99th percentile of the time a frame spends in the server."""
    with urllib.request.urlopen(metrics_url) as page:
        text = page.read().decode()
    found = re.findall(r'^tidegate_frame_total_seconds_bucket\{le="([^"]+)".*\} (\S+)$', text, re.MULTILINE)
    buckets = [(float(bound), float(count)) for bound, count in found]
    p50, p99 = (quantile_s(buckets, level) * 1000 for level in (0.5, 0.99))
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"


def quantile_s(buckets: list[tuple[float, float]], level: float) -> float:
    """As Prometheus' histogram_quantile: linear inside the bucket where the level falls."""
    rank = level * buckets[-1][1]
    lower_s, below = 0.0, 0.0
    for upper_s, count in buckets:
        if count >= rank:
            return lower_s + (upper_s - lower_s) * (rank - below) / (count - below)
        lower_s, below = upper_s, count
    return lower_s


def compare_with_naive(run: Run) -> None:
    """The error of the next-week forecasts on the held-out weeks, beside what needs no model."""
    values = run.values
    weeks = [
        t
        for t, row in enumerate(run.rows)
        if row.time is not None and row.time >= HELD_OUT_FROM and not row.filled
    ]
    actual = values[weeks]
    guesses = {
        "this model": np.array([run.forecasts[t - 1][0, 1] for t in weeks]),
        "repeat last": np.array([values[t - 1] for t in weeks]),
        "same week last year": np.array([values[t - WEEKS_A_YEAR] for t in weeks]),
    }
    print(f"\nmean error of the next-week forecast over {len(weeks)} held-out weeks:")
    for name, guess in guesses.items():
        print(f"  {name:20}  {np.abs(guess - actual).mean():.2f} ppm")


def show_forecast(run: Run) -> None:
    """The forecast of the last step, as a picture and as a sketch."""
    weeks = np.array([row.time.date() for row in run.rows if row.time is not None], "datetime64[D]")
    num_ahead = len(run.forecasts[-1])
    outlook = Outlook(
        weeks=weeks[-2 * WEEKS_A_YEAR :],
        values=run.values[-2 * WEEKS_A_YEAR :],
        future_weeks=weeks[-1] + 7 * np.arange(1, num_ahead + 1),
        quantiles=run.forecasts[-1],
    )
    PICTURE.parent.mkdir(exist_ok=True)
    draw(outlook, PICTURE)
    print(f"\n{sketch(outlook)}\n\npicture: {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
