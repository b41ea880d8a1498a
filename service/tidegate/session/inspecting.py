"""What the recurrent layers do in steps that a session has not taken, from its state at this moment.

The state is copied between two batches; everything else happens to the copy, in one thread of its own
and in a graph of its own, so no step of any session waits for it and the session is not touched.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from tidegate.engine.pool import LoadedModel, ModelPool
from tidegate.errors import MessageTooLarge, SessionNotFound, Unsupported
from tidegate.runner.tracing import LayerTrace, Tracer
from tidegate.session.copying import copy_state
from tidegate.session.frames import check_values
from tidegate.session.manager import SessionManager
from tidegate.tensor import Array


@dataclass(frozen=True)
class Inspection:
    """What was seen.

    Attributes:
        first_step: Number that the first of the steps would have.
        layers: The recurrent layers, from the lowest up.
    """

    first_step: int
    layers: list[LayerTrace]


class Inspector:
    """Inspects the sessions of one server, one call at a time. Only the event loop's thread calls this."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inspect")
        # Of a model that cannot be inspected, the reason. An unloaded version takes its tracer with it.
        self._tracers: WeakKeyDictionary[LoadedModel, Tracer | str] = WeakKeyDictionary()

    async def inspect(self, session_id: str, model: LoadedModel, inputs: Sequence[Array]) -> Inspection:
        """Look at steps from the live state on, whether a stream holds the session or not.

        Args:
            session_id: The session.
            model: As `SessionManager.model_of` gave it.
            inputs: One array per model input, `[1, T, step_shape...]`.

        Raises:
            InvalidRequest: A value is not finite.
            MessageTooLarge: More steps, or a longer answer, than the server takes at a time.
            SessionNotFound: The session was ended meanwhile.
            TooManyRequests: Too many bytes are waiting.
            Unsupported: The graph of the model cannot be read; says why.
        """
        limits, num_steps = self._manager.limits, inputs[0].shape[1]
        if num_steps > limits.max_frame_steps:
            raise MessageTooLarge(f"inputs: expected at most {limits.max_frame_steps} steps, got {num_steps}")
        check_values(model.manifest, inputs)
        tracer = await self._tracer_of(model)
        answer_bytes = num_steps * tracer.step_bytes
        if answer_bytes > limits.max_message_bytes:
            raise MessageTooLarge(
                f"inputs: expected steps whose traces have at most {limits.max_message_bytes} bytes, "
                f"{num_steps} steps of {model.manifest.label} have {answer_bytes}"
            )
        num_bytes = answer_bytes + sum(x.nbytes for x in inputs)
        self._manager.budget.take(num_bytes)
        stop = threading.Event()
        try:
            first_step, states = await self._copy_of(session_id, model)
            loop = asyncio.get_running_loop()
            layers = await loop.run_in_executor(self._thread, tracer.trace, inputs, states, stop)
        finally:
            stop.set()  # a call that is cut off must not keep the thread, nor the server's end waiting
            self._manager.budget.give_back(num_bytes)
        return Inspection(first_step, layers)

    async def _tracer_of(self, model: LoadedModel) -> Tracer:
        if model not in self._tracers:
            loop = asyncio.get_running_loop()
            made = await loop.run_in_executor(self._thread, _make_tracer, self._manager.pool, model)
            # Of two calls that found none, the second finds the tracer of the first here.
            self._tracers.setdefault(model, made)
        tracer = self._tracers[model]
        if isinstance(tracer, str):
            raise Unsupported(tracer)
        return tracer

    async def _copy_of(self, session_id: str, model: LoadedModel) -> tuple[int, list[Array]]:
        """The number of a session's next step and its states `[1, step_shape...]`, between two batches."""
        copy = await copy_state(self._manager.returner, session_id)
        if copy.model is not model:
            raise SessionNotFound(f"session {session_id!r} was ended meanwhile")
        return copy.next_step, copy.states


def _make_tracer(pool: ModelPool, model: LoadedModel) -> Tracer | str:
    try:
        return Tracer(pool.read_package(model))
    except Unsupported as error:
        return str(error)
