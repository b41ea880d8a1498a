"""Series like those of machines under load: what the tests of exactly-once feed.

Made from a seed, so a run can be repeated; `TIDEGATE_TEST_DATA` may name a folder that has the Numenta
Anomaly Benchmark under `nab/data`, whose 58 series are then fed as well.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from support.onnx_models import lstm_package
from support.raw_stream import Floats
from tidegate.model.manifest import InputSpec
from tidegate.tensor import DType

DATA_VARIABLE = "TIDEGATE_TEST_DATA"
FEATURES = ("cpu", "network", "latency")
MODEL = "machines"
HIDDEN = 8

NUM_FLEET = 40
NUM_ALONE = 12
NUM_FILES = 6
FLEET_ROWS = 850
ALONE_ROWS = 1000
FILE_ROWS = 667
"""40 machines in a fleet, 12 on their own, 6 in files: 58 with 50,002 rows."""


def machine_package(repository: Path) -> Path:
    """The model that is fed: an LSTM of the three features."""
    spec = InputSpec(name="x", dtype=DType.FLOAT32, shape=("batch", "time", 3), features=FEATURES)
    return lstm_package(repository, name=MODEL, hidden=HIDDEN, inputs=(spec,))


def machine_metrics(num_machines: int, num_rows: int, seed: int) -> Floats:
    """Load by the hour with noise that lasts and rare spikes, about of size 1, [machines, rows, 3]."""
    rng = np.random.default_rng(seed)
    hours = np.arange(num_rows) / 12
    phase = rng.uniform(0, 24, (num_machines, 1, 3))
    daily = np.sin((hours[:, None] + phase) * (2 * np.pi / 24))
    noise = rng.normal(0, 0.3, (num_machines, num_rows, 3))
    for t in range(1, num_rows):
        noise[:, t] += 0.8 * noise[:, t - 1]
    spikes = rng.exponential(2, noise.shape) * (rng.random(noise.shape) < 0.01)
    return (daily + noise + spikes).astype(np.float32)


def nab_series(num_rows: int) -> Floats | None:
    """The first rows of each NAB series, with its change and its mean so far, [58, rows, 3].

    Returns:
        None where there is no such data.
    """
    folder = Path(os.environ.get(DATA_VARIABLE, "")) / "nab" / "data"
    files = sorted(folder.glob("*/*.csv")) if DATA_VARIABLE in os.environ else []
    if not files:
        return None
    return np.stack([_nab_file(file, num_rows) for file in files])


def write_csv(path: Path, x: Floats) -> None:
    """Write inputs [rows, 3] as `tidegate stream` reads them, with every bit."""
    path.write_text("".join(csv_lines(x)))


def csv_lines(x: Floats) -> Sequence[str]:
    """Header and rows, each with its line break."""
    return [",".join(FEATURES) + "\n", *(",".join(map(str, row)) + "\n" for row in x)]


def _nab_file(file: Path, num_rows: int) -> Floats:
    with file.open(newline="") as lines:
        values = np.array([float(row["value"]) for row in csv.DictReader(lines)][:num_rows])
    values = (values - values.mean()) / (values.std() or 1.0)
    means = np.cumsum(values) / np.arange(1, len(values) + 1)
    return np.stack([values, np.diff(values, prepend=values[0]), means], axis=1).astype(np.float32)
