"""What is measured and what it should reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Goal:
    """A bound on a figure.

    Attributes:
        unit: Of the figure and the bound.
        sense: Which side of the bound is good.
        bound: The last value that is good enough.
        meaning: What the figure is, in one line.
    """

    unit: str
    sense: Literal["≥", "≤"]
    bound: float
    meaning: str

    def is_met(self, value: float) -> bool:
        """Whether a figure is good enough."""
        return value >= self.bound if self.sense == "≥" else value <= self.bound

    def __str__(self) -> str:
        return f"{self.sense} {self.bound:g}"


GOALS: dict[str, Goal] = {
    "engine.efficiency": Goal("ratio", "≥", 0.90, "CPU per row: raw ÷ engine, frames of 64"),
    "frames.efficiency": Goal("ratio", "≥", 0.85, "CPU per frame of 256: (echo + raw) ÷ server"),
    "frames.rate": Goal("ratio", "≥", 0.75, "steps/s over gRPC ÷ raw at its best batch"),
    "single.efficiency": Goal("ratio", "≥", 0.80, "CPU per message of one row: (echo + raw) ÷ server"),
    "oip.efficiency": Goal(
        "ratio", "≥", 0.50, "CPU per sequence request, Open Inference: (echo + raw) ÷ server"
    ),
    "oip.durable": Goal("ratio", "≥", 0.50, "sequence requests/s with store-before-answer ÷ without"),
    "single.latency": Goal("ratio", "≤", 1.25, "p50 of one stream ÷ (echo + raw)"),
    "single.tail": Goal("ratio", "≤", 1.5, "p99 of one stream ÷ (echo + raw)"),
    "history.tail": Goal("ratio", "≤", 2.0, "p99 of single steps beside a long history ÷ without"),
    "history.share": Goal("ratio", "≥", 0.5, "rate of that history beside single steps ÷ alone"),
    "million.latency": Goal("ratio", "≤", 1.35, "p50 of frames of 256 at 1,000,000 sessions ÷ at 1,000"),
    "million.memory": Goal("ratio", "≤", 1.15, "RSS at 1,000,000 sessions ÷ (states + 300 MB)"),
    "million.open": Goal("s", "≤", 30, "time to open 1,000,000 sessions"),
    "checkpoint.overhead": Goal("ratio", "≥", 0.90, "CPU per frame of 256 with acks: no store ÷ checkpoints"),
    "checkpoint.rate": Goal("1/s", "≥", 100_000, "sessions stored, 1,000,000 there already"),
    "resume.seconds": Goal("s", "≤", 5.0, "kill -9 to 10,000 sessions resumed and answered"),
    "start.million": Goal("s", "≤", 3.0, "process start to SERVING, 1,000,000 stored sessions"),
    "start.seconds": Goal("s", "≤", 2.0, "process start to SERVING, demo model"),
    "soak.growth": Goal("MB", "≤", 4, "RSS gained from 30 s to 3 minutes of churn"),
}
"""By name of the figure; a definition here is never changed to reach a goal."""
