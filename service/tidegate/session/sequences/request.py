"""A request of a sequence, as the door takes it, and its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tidegate.engine.frame import Source
from tidegate.engine.pool import LoadedModel
from tidegate.errors import TidegateError
from tidegate.model.manifest import Manifest
from tidegate.session.sequences.key import SequenceKey
from tidegate.tensor import Array

ReadInputs = Callable[[Manifest], list[Array]]
"""Makes the inputs of a request, `[1, T, step_shape...]` each with T >= 1, once it is known what the model takes.

Raises InvalidRequest for inputs that the model does not take, and for values that no model may see.
"""


@dataclass(slots=True)
class SequenceAnswer:
    """What the steps of a request gave.

    Attributes:
        model: The version that the sequence is pinned to.
        first_step: Number of the first step answered.
        outputs: One array per model output, `[1, T, step_shape...]`; not to be written to.
    """

    model: LoadedModel
    first_step: int
    outputs: list[Array]


Outcome = SequenceAnswer | TidegateError


@dataclass(slots=True)
class SequenceRequest:
    """The next steps of a sequence.

    Attributes:
        key: Which sequence.
        version: Version of the model; "" for the newest at a start, else for the one that it is pinned to.
        request_id: The client's, "" for none; at most `kept.MAX_REQUEST_ID_BYTES`.
        starts: Begins the sequence.
        ends: Ends it once these steps are answered.
        step: Number of the first of these steps, from 0, if the client says it.
        time_limit_s: From arrival to the start of the first step; None for no limit.
        arrived_s: Monotonic time.
        read_inputs: Makes the inputs. It may be called more than once, and not at all.
        source: The stream that it came by, or one of its own for a single call.
        reply: Takes what became of it, exactly once, in the event loop; maybe before `submit` returns.
            Bytes that the request and its answer hold are counted by whoever submits it.
    """

    key: SequenceKey
    version: str
    request_id: str
    starts: bool
    ends: bool
    step: int | None
    time_limit_s: float | None
    arrived_s: float
    read_inputs: ReadInputs
    source: Source
    reply: Callable[[Outcome], None]

    @property
    def deadline_s(self) -> float | None:
        """Monotonic time by which its first step must have begun."""
        return None if self.time_limit_s is None else self.arrived_s + self.time_limit_s
