"""Promise P1 through the real server: a session's answers depend on its own inputs alone, bit for bit.

Random scripts of several clients are compared with one session that has the server to itself and is
stepped one by one; that one in turn with ONNX Runtime called directly.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, example, given, note, settings

from support.ids import new_id
from support.metrics import value
from support.onnx_models import decay_package, gru_package, lstm_package, rnn_package
from support.raw_stream import Floats, alone, connect
from support.scripts import NUM_SERIES, NUM_STEPS, Frame, Resume, Script, play, scripts
from support.server import MODELS, ServerProcess
from tidegate.model.package import ModelPackage, read_package

NUM_EXAMPLES = 60

FLAGS = ("--max-slice-steps=4", "--max-batch-size=8")
"""Small slices and batches: frames are cut, and batches overflow."""


@dataclass(frozen=True)
class Subject:
    """A package whose sessions are compared.

    Attributes:
        exactness: What the probe must have found.
        mean: Around which value its inputs lie.
        write: Puts it into a repository.
    """

    exactness: str
    features: int
    write: Callable[[Path], object]
    mean: float = 0.0


SUBJECTS = {
    "lstm": Subject("exact", 3, lstm_package),
    "gru": Subject("exact", 3, gru_package),
    "decay": Subject("exact", 4, decay_package),
    "co2-weekly": Subject("exact", 1, lambda r: shutil.copytree(MODELS / "co2-weekly", r / "co2-weekly"), 350.0),
    "rnn": Subject("serial", 3, rnn_package),
    "softplus": Subject("serial", 3, lambda r: lstm_package(r, name="softplus", hidden=13, tail="Softplus")),
}  # fmt: skip


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("models")
    for subject in SUBJECTS.values():
        subject.write(repository)
    return repository


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(repository, tmp_path_factory.mktemp("server"), *FLAGS) as server:
        yield server


def draw_series(subject: Subject) -> Floats:
    """Series of several magnitudes, [NUM_SERIES, NUM_STEPS, features]."""
    rng = np.random.default_rng(7)
    scale = np.resize([0.01, 1.0, 30.0], (NUM_SERIES, 1, 1))
    return (subject.mean + scale * rng.normal(0, 1, (NUM_SERIES, NUM_STEPS, subject.features))).astype(
        np.float32
    )


async def answers_alone(server: ServerProcess, model: str, series: Floats) -> Floats:
    """Each series in a session of its own, one after the other, step by step."""
    async with connect(server.address) as channel:
        return np.stack([await alone(channel, model, new_id("alone"), x) for x in series])


async def answers_of(server: ServerProcess, model: str, script: Script, series: Floats) -> list[Floats]:
    async with connect(server.address) as channel:
        return await play(channel, model, script, series)


BATCHED = Script(
    series=tuple(range(10)),
    num_streams=2,
    actions=tuple(Frame(i % 2, 1 + i % 3, tuple(range(5)), wait=False) for i in range(8)),
)
"""Ten sessions that step at the same time: their rows share runs."""

MOVED = Script(
    series=(0, 1),
    num_streams=2,
    actions=(
        Frame(0, 3, (0,), wait=True),
        Resume(0, 1, "detach"),
        Frame(1, 5, (0, 1), wait=False),
        Resume(0, 0, "displace"),
    ),
)
"""A session that is detached, resumed on another stream, and taken back in the middle of a frame."""


@pytest.mark.parametrize("model", SUBJECTS)
def test_answers_are_bit_identical_to_a_session_alone(server: ServerProcess, model: str) -> None:
    series = draw_series(SUBJECTS[model])
    expected = asyncio.run(answers_alone(server, model, series))

    @settings(
        max_examples=NUM_EXAMPLES,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(script=scripts())
    @example(script=BATCHED)
    @example(script=MOVED)
    def holds(script: Script) -> None:
        answers = asyncio.run(answers_of(server, model, script, series))

        for i, (number, answer) in enumerate(zip(script.series, answers, strict=True)):
            differs = np.flatnonzero((answer != expected[number]).any(axis=1))
            note(f"{model}: session {i} differs at steps {differs.tolist()}")
            assert answer.tobytes() == expected[number].tobytes()

    holds()

    runs = value(server, "tidegate_batch_rows_count", model=model)
    runs_of_one = value(server, "tidegate_batch_rows_bucket", model=model, le="1.0")
    assert runs > runs_of_one > 0, "no batch held more than one row: nothing was tested"


@pytest.mark.parametrize("model", SUBJECTS)
def test_a_session_alone_gets_what_the_graph_gives(
    server: ServerProcess, repository: Path, model: str
) -> None:
    series = draw_series(SUBJECTS[model])
    package = read_package(repository / model / "1")

    answers = asyncio.run(answers_alone(server, model, series))

    for x, answer in zip(series, answers, strict=True):
        assert run_directly(package, x).tobytes() == answer.tobytes()


@pytest.mark.parametrize("model", SUBJECTS)
def test_the_probe_has_judged_each_package_as_expected(server: ServerProcess, model: str) -> None:
    expected = SUBJECTS[model].exactness

    assert value(server, "tidegate_model_info", model=model, batch_exactness=expected) == 1
    assert value(server, "tidegate_model_batch_exact", model=model) == (expected == "exact")


def run_directly(package: ModelPackage, x: Floats) -> Floats:
    """One row through the graph, one step at a time, by the manifest alone; [steps, elements]."""
    session = onnxruntime.InferenceSession(package.onnx)
    manifest = package.manifest
    shape = manifest.inputs[0].graph_shape(1, 1)
    fetches = [manifest.outputs[0].name, *(pair.output_name for pair in manifest.states)]
    states = [
        initial.reshape(pair.graph_shape(1, 1))
        for initial, pair in zip(package.initial_states, manifest.states, strict=True)
    ]
    answers = []
    for x_t in x:
        carried = {pair.input_name: state for pair, state in zip(manifest.states, states, strict=True)}
        y, *states = session.run(fetches, carried | {manifest.inputs[0].name: x_t.reshape(shape)})
        answers.append(y.ravel())
    return np.stack(answers)
