"""What the probe found of a model, in words, and how it is run for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate.runner.runner import Runner


def verdict(runner: Runner) -> Iterator[tuple[str, str]]:
    """Names and values, for people."""
    found = runner.exactness
    yield (
        "batch-exact",
        "yes: bit-identical however it is batched" if found.exact else f"no: {found.detail}",
    )
    rows = _manner("row", runner.rows_together, runner.manifest.has_batch_axis, "batch")
    steps = _manner("step", runner.steps_together, runner.manifest.has_time_axis, "time")
    yield "a run takes", f"{rows} and {steps}"
    if not found.exact and runner.manifest.batching == "always":
        yield "promise", "P1 is off: batching = always, so answers depend on the company in their last digits"


def _manner(what: str, is_shared: bool, has_axis: bool, mark: str) -> str:
    if is_shared:
        return f"many {what}s"
    return f"one {what}" if has_axis else f"one {what} (the graph has no {mark} axis)"
