"""Export, import and fork through a real server."""

from __future__ import annotations

from uuid import uuid4

import numpy as np
import pytest

from support.server import ServerProcess
from tidegate.client import AsyncClient, Client
from tidegate.errors import InvalidRequest, ModelNotFound, SessionExists, SessionNotFound

X = np.random.default_rng(9).normal(0, 1, (12, 3)).astype(np.float32)


async def test_a_fork_and_an_import_answer_as_the_original_which_its_stream_keeps(
    small_server: ServerProcess,
) -> None:
    fork_id, import_id = uuid4().hex, uuid4().hex
    async with AsyncClient(small_server.address) as client, client.session("lstm") as session:
        await session.steps(X[:5])

        forked = await client.sessions.fork(session.session_id, fork_id)
        imported = await client.sessions.import_snapshot(
            await client.sessions.export_snapshot(session.session_id), import_id
        )

        expected = await session.steps(X[5:])
        for info in (forked, imported):
            assert (info.model, info.version, info.condition) == ("lstm", "1", "detached")
            assert (info.next_step, info.durable_step) == (5, 5)
            async with client.session("lstm", info.session_id, mode="resume") as copy:
                assert copy.next_step == 5
                assert (await copy.steps(X[5:])).tobytes() == expected.tobytes()


async def test_a_copy_is_listed_stepped_by_single_calls_and_ended_like_any_session(
    small_server: ServerProcess,
) -> None:
    fork_id = uuid4().hex
    async with AsyncClient(small_server.address) as client:
        async with client.session("lstm") as session:
            await session.steps(X[:5])
            await client.sessions.fork(session.session_id, fork_id)
            [expected] = await session.steps(X[5:6])

        listed = {s.session_id: s for s in await client.sessions.list("lstm")}
        answer = await client.step_session(fork_id, X[5:6], first_step=5)
        steps = await client.sessions.close(fork_id)

        assert (listed[fork_id].next_step, steps) == (5, 6)
        assert answer.outputs["y"][0].tobytes() == expected.tobytes()
        with pytest.raises(SessionNotFound):
            await client.sessions.get(fork_id)


def test_refusals_have_their_types_without_asyncio_too(
    small_server: ServerProcess, demo_server: ServerProcess
) -> None:
    session_id, fork_id = uuid4().hex, uuid4().hex
    with Client(small_server.address) as client, client.session("lstm", session_id) as session:
        session.steps(X[:2])
        snapshot = client.sessions.export_snapshot(session_id)
        with pytest.raises(SessionExists, match=f"'{session_id}' exists, at step 2"):
            client.sessions.import_snapshot(snapshot)
        with pytest.raises(SessionExists):
            client.sessions.fork(session_id, session_id)
        with pytest.raises(SessionNotFound):
            client.sessions.fork("nobody", fork_id)
        with pytest.raises(InvalidRequest, match="fails its checksum"):
            client.sessions.import_snapshot(snapshot[:100] + b"?" + snapshot[101:], fork_id)
        with Client(demo_server.address) as elsewhere, pytest.raises(ModelNotFound):
            elsewhere.sessions.import_snapshot(snapshot, fork_id)

        assert client.sessions.fork(session_id, fork_id).next_step == 2
