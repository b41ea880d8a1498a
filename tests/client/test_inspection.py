"""Gates and memories through a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from support.recurrent_models import HIDDEN, forecaster, forecaster_package, traces_by_torch, walk
from support.server import ServerProcess
from tidegate.client import AsyncClient, Client
from tidegate.errors import InvalidRequest, MessageTooLarge, SessionNotFound, Unsupported
from tidegate.training.cells import CellName

NETWORKS: dict[str, tuple[CellName, int]] = {"lstm": ("lstm", 2), "gru": ("gru", 1), "rnn": ("rnn", 2)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("inspected")
    for name, (cell, num_layers) in NETWORKS.items():
        forecaster_package(folder / "models", forecaster(cell, num_layers), name)
    with ServerProcess(folder / "models", folder, "--max-frame-steps", "50") as server:
        yield server


@pytest.mark.parametrize("name", NETWORKS)
async def test_a_live_session_shows_what_pytorch_computes_and_goes_on_untouched(
    server: ServerProcess, name: str
) -> None:
    x = walk(40)

    async with AsyncClient(server.address) as client:
        async with client.session(name) as session:
            undisturbed = await session.steps(x)
        async with client.session(name) as session:
            head = await session.steps(x[:15])
            seen = await client.sessions.inspect(session.session_id, x[15:])
            again = await client.sessions.inspect(session.session_id, x[15:])
            steps = (session.next_step, (await client.sessions.get(session.session_id)).next_step)
            tail = await session.steps(x[15:])

    expected = traces_by_torch(forecaster(*NETWORKS[name]), x)
    assert (seen.first_step, seen.num_steps, steps) == (15, 25, (15, 15))
    assert [layer.cell for layer in seen.layers] == [name.upper()] * len(expected)
    for layer, repeated, by_torch in zip(seen.layers, again.layers, expected, strict=True):
        assert list(layer.traces) == list(by_torch)
        for trace, values in layer.traces.items():
            assert values.shape == (25, HIDDEN)
            np.testing.assert_allclose(values, by_torch[trace][15:], rtol=0, atol=1e-5, err_msg=trace)
            np.testing.assert_array_equal(values, repeated.traces[trace])
    assert np.concatenate([head, tail]).tobytes() == undisturbed.tobytes()


def test_a_detached_session_is_inspected_without_asyncio(server: ServerProcess) -> None:
    session_id = uuid4().hex

    with Client(server.address) as client:
        with client.session("lstm", session_id) as session:
            session.steps(walk(3))
        before = client.sessions.get(session_id)
        seen = client.sessions.inspect(session_id, {"x": walk(2)})
        after = client.sessions.get(session_id)

    assert (seen.first_step, seen.num_steps) == (3, 2)
    assert (after.condition, after.next_step) == ("detached", 3)
    assert before.last_used_at is not None
    assert after.last_used_at is not None
    assert abs((after.last_used_at - before.last_used_at).total_seconds()) < 0.01, "it was not used"


async def test_what_cannot_be_shown_is_refused_and_says_why(server: ServerProcess) -> None:
    async with AsyncClient(server.address) as client, client.session("lstm") as session:
        with pytest.raises(MessageTooLarge, match="inputs: expected at most 50 steps, got 51"):
            await client.sessions.inspect(session.session_id, walk(51))
        with pytest.raises(InvalidRequest, match=r"input 'x': shape: expected \[T, 2\], got \[4, 3\]"):
            await client.sessions.inspect(session.session_id, np.zeros((4, 3)))
        with pytest.raises(InvalidRequest, match=r"inputs: 'x'\[0\] of step 1 of the row: .*, got nan"):
            await client.sessions.inspect(session.session_id, [[0, 0], [np.nan, 0]])
        with pytest.raises(SessionNotFound, match="no session 'nope'"):
            await client.sessions.inspect("nope", walk(1))


async def test_a_model_that_cannot_be_read_says_so_and_goes_on(small_server: ServerProcess) -> None:
    async with AsyncClient(small_server.address) as client, client.session("decay") as session:
        with pytest.raises(
            Unsupported, match="decay/1 cannot be inspected: the graph has no recurrent layer"
        ):
            await client.sessions.inspect(session.session_id, np.ones((2, 4)))

        np.testing.assert_array_equal(await session.step(np.ones(4)), np.ones(4, np.float32))


async def test_a_model_whose_files_are_gone_is_not_shown(tmp_path: Path) -> None:
    package = forecaster_package(tmp_path / "models", forecaster("gru", 1), "gru")

    with ServerProcess(tmp_path / "models", tmp_path) as server:
        async with AsyncClient(server.address) as client, client.session("gru") as session:
            (package / "model.onnx").write_bytes(b"other")
            with pytest.raises(Exception, match="sha256") as caught:
                await client.sessions.inspect(session.session_id, walk(1))
            assert np.isfinite(await session.step(walk(1)[0])).all()

    assert caught.typename == "PackageError"
