"""A session is measured without a load and beside one."""

from __future__ import annotations

from bench.loading import run
from bench.models import LstmShape


def test_a_load_beside_a_session_is_measured() -> None:
    lines: list[str] = []

    run(LstmShape("small", layers=1, hidden=4, features=2), quiet_s=0.2, write=lines.append)

    assert [line.split()[0] for line in lines] == ["quiet", "loading"]
