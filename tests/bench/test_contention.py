"""What counts as noise during a measurement."""

from __future__ import annotations

from bench.contention import Usage, foreign_cores, usage, warning


def test_what_others_took_is_what_we_did_not() -> None:
    before = Usage(at_s=10.0, all_s=100.0, ours_s=40.0, stolen_s=1.0)
    after = Usage(at_s=20.0, all_s=115.0, ours_s=50.0, stolen_s=3.0)

    cores = foreign_cores(before, after)

    assert cores == {"used_by_others": 0.5, "stolen_by_hypervisor": 0.2}
    assert "0.50 cores" in warning(cores)
    assert warning({"used_by_others": 0.01, "stolen_by_hypervisor": 0.0}) == ""


def test_our_own_work_is_ours() -> None:
    before = usage()

    sum(range(3_000_000))

    after = usage()
    assert after.ours_s > before.ours_s
    assert after.all_s >= before.all_s
