"""The bytes that all clients together may leave in memory."""

from __future__ import annotations

import pytest

from support.session_bench import LIMITS, SessionBench
from tidegate.errors import MessageTooLarge, TooManyRequests
from tidegate.session.limits import ByteBudget, check_answers
from tidegate.telemetry.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def budget(metrics: Metrics) -> ByteBudget:
    return ByteBudget(LIMITS, metrics)


def test_exactly_the_limit_fits(budget: ByteBudget) -> None:
    budget.take(LIMITS.max_pending_bytes)

    budget.give_back(LIMITS.max_pending_bytes)


def test_one_byte_more_is_refused_with_a_hint_and_not_counted(budget: ByteBudget, metrics: Metrics) -> None:
    budget.take(LIMITS.max_pending_bytes)

    with pytest.raises(TooManyRequests, match=r"1 bytes more than the 4096 that wait") as caught:
        budget.take(1)

    assert caught.value.retry_after_s == LIMITS.retry_after_s
    assert metrics.registry.get_sample_value("tidegate_pending_bytes") == LIMITS.max_pending_bytes


def test_answers_are_never_refused_but_count(budget: ByteBudget) -> None:
    budget.add(LIMITS.max_pending_bytes + 1)

    with pytest.raises(TooManyRequests):
        budget.take(1)


def test_bytes_given_back_twice_are_our_mistake(budget: ByteBudget) -> None:
    budget.take(5)
    budget.give_back(5)

    with pytest.raises(AssertionError, match="given back twice"):
        budget.give_back(5)


async def test_answers_fill_a_message_and_no_more(bench: SessionBench) -> None:
    manifest = (await bench.pool.load("lstm", "1")).manifest  # 16 elements of 4 bytes in a step
    fitting = LIMITS.max_message_bytes // 64

    check_answers(manifest, fitting, LIMITS)
    check_answers(manifest, fitting // 2, LIMITS, widen_to_bytes=8)

    with pytest.raises(MessageTooLarge, match=f"{fitting + 1} steps of lstm/1 would have"):
        check_answers(manifest, fitting + 1, LIMITS)
    with pytest.raises(MessageTooLarge, match="would have"):
        check_answers(manifest, fitting // 2 + 1, LIMITS, widen_to_bytes=8)
