"""Graphs that other people exported, on a real server: every session gets what ONNX Runtime gives it alone,
also after a restart, from the states that the store has kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from support.foreign_models import FOREIGN_MODELS
from support.ids import new_id
from support.plain_runs import draw_rows, plain_run
from support.server import ServerProcess
from tidegate.client import Client
from tidegate.model.package import ModelPackage, read_package
from tidegate.tensor import Array

pytestmark = pytest.mark.slow

NUM_ROWS, NUM_STEPS, SEED = 5, 8, 23


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelPackage]:
    """All foreign models in one repository."""
    repository = tmp_path_factory.mktemp("foreign")
    return {name: read_package(make().package(repository, name)) for name, make in FOREIGN_MODELS.items()}


@dataclass(frozen=True)
class Served:
    """What a server made of the models: inputs and answers by model and part, and its last log."""

    inputs: dict[str, list[Array]]
    answers: dict[str, list[list[Array]]]
    log: str


@pytest.fixture(scope="module")
def served(packages: dict[str, ModelPackage], tmp_path_factory: pytest.TempPathFactory) -> Served:
    """Every model stepped by several sessions, with a restart in between."""
    repository, folder = next(iter(packages.values())).path.parents[1], tmp_path_factory.mktemp("server")
    ids = {name: [new_id() for _ in range(NUM_ROWS)] for name in packages}
    inputs = {n: draw_rows(p.manifest, NUM_ROWS, NUM_STEPS, SEED) for n, p in packages.items()}
    answers: dict[str, list[list[Array]]] = {name: [] for name in packages}
    for part in (slice(None, 5), slice(5, None)):
        with ServerProcess(repository, folder) as server, Client(server.address) as client:
            for name, package in packages.items():
                chunk = [x[:, part] for x in inputs[name]]
                answers[name].append(stepped(client, package, ids[name], chunk))
    return Served(inputs, answers, server.log())


def stepped(client: Client, package: ModelPackage, ids: list[str], inputs: list[Array]) -> list[Array]:
    """Feed sessions a chunk; the outputs, in the manifest's order."""
    manifest = package.manifest
    values = {spec.name: x for spec, x in zip(manifest.inputs, inputs, strict=True)}
    with client.fleet(manifest.name, ids) as fleet:
        found = fleet.run(values)
    return [found[spec.name] for spec in manifest.outputs]


@pytest.mark.parametrize("name", FOREIGN_MODELS)
def test_a_foreign_model_goes_on_across_a_restart_to_the_bit(
    packages: dict[str, ModelPackage], served: Served, name: str
) -> None:
    expected = plain_run(packages[name], served.inputs[name]).outputs

    for want, *parts in zip(expected, *served.answers[name], strict=True):
        got = np.concatenate(parts, axis=1)
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        assert got.tobytes() == want.tobytes()


def test_the_log_says_at_load_what_is_not_batched_and_why(served: Served) -> None:
    lines = [line for line in served.log.splitlines() if "model loaded" in line]

    loaded = {name: next(line for line in lines if f"{name}/1" in line) for name in FOREIGN_MODELS}
    assert "off: the graph takes one row at a time" in loaded["fixed_batch"]
    assert "the graph takes one row" not in loaded["separate_layers"]
    assert "2 rows together differ from the same rows alone by up to" in loaded["not_exact"]
    assert "a state pair is wrong, or the graph looks ahead" in loaded["bidirectional"]
