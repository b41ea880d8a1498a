"""Forked and imported sessions are stored when the answer comes: a server that dies then has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from support.server import ServerProcess
from tidegate.client import AsyncClient

X = np.random.default_rng(10).normal(0, 1, (40, 3)).astype(np.float32)

RARELY = "--checkpoint-age-s=3600"
"""Nothing is stored that is not stored for the answer."""


async def test_copies_resume_bit_identically_after_a_kill_right_behind_the_answer(
    small_models: Path, tmp_path: Path
) -> None:
    with ServerProcess(small_models, tmp_path / "one", RARELY) as server:
        async with AsyncClient(server.address) as client:
            await client.step_session("original", X[:17], first_step=0, model="lstm", mode="create")
            snapshot = await client.sessions.export_snapshot("original")
            await client.sessions.import_snapshot(snapshot, "imported")
            await client.sessions.fork("original", "forked")
            server.kill()
    with ServerProcess(small_models, tmp_path / "one", RARELY) as server:
        async with AsyncClient(server.address) as client, client.session("lstm", "undisturbed") as session:
            expected = (await session.steps(X))[17:].tobytes()
            conditions = {s.session_id: s.condition for s in await client.sessions.list()}
            answers = {}
            for session_id in ("imported", "forked"):
                async with client.session("lstm", session_id, mode="resume", next_step=17) as copy:
                    answers[session_id] = (await copy.steps(X[17:])).tobytes()

    assert (conditions["imported"], conditions["forked"]) == ("passivated", "passivated")
    assert answers == {"imported": expected, "forked": expected}
