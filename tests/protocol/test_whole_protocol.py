"""The whole protocol in a small world: every promise holds, and is broken when a rule is left out."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from support.small_world import rules
from support.small_world.machine import SmallWorld
from support.small_world.messages import PromiseBroken

WORLD = settings(
    deadline=None,
    database=None,
    derandomize=True,
    stateful_step_count=30,
    suppress_health_check=list(HealthCheck),
)


def test_every_promise_holds_whatever_happens() -> None:
    run_state_machine_as_test(SmallWorld, settings=settings(WORLD, max_examples=600))


@pytest.mark.parametrize(
    ("forgotten", "broken"),
    [
        (rules.OneRowOnly, "durable is lost"),
        (rules.HeldFromIgnored, "inputs that its client has no more"),
        (rules.HaveIgnored, "beyond what its client has"),
        (rules.LostTailIgnored, "is wrong"),
        (rules.TakeOverIgnored, "is wrong"),
        (rules.AttemptsIgnored, "displaced by nobody"),
        (rules.TombstonesIgnored, "restarted unknowingly|loss is not reported"),
        (rules.NothingForgotten, "is wrong"),
    ],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_a_server_that_forgets_a_rule_is_found_out(forgotten: type[rules.Rules], broken: str) -> None:
    machine = type(forgotten.__name__, (SmallWorld,), {"server_rules": forgotten})
    search = settings(WORLD, max_examples=2000, phases=[Phase.generate], report_multiple_bugs=False)

    with pytest.raises(PromiseBroken, match=broken):
        run_state_machine_as_test(machine, settings=search)
