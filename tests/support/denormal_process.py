"""A process that lets a state decay on every thread that runs models, and prints in which step it was 0.

`python -m support.denormal_process REPOSITORY [--as-served]`; with the flag it starts as a server does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import numpy as np

from tidegate.engine import engine as engine_module
from tidegate.engine.engine import Engine
from tidegate.engine.frame import EngineFrame, Part, Source
from tidegate.engine.meter import EngineMeter
from tidegate.model.package import read_package
from tidegate.protocol.outputs import OutputSelection
from tidegate.runner.ort import treat_denormals_as_zero
from tidegate.runner.runner import Runner, RunnerOptions
from tidegate.telemetry.metrics import Metrics

NUM_STEPS = 200
"""0.5 ** 127 is the first denormal float32, 0.5 ** 150 rounds to 0 where they are kept."""

PULSE = np.zeros((1, NUM_STEPS, 4), np.float32)
PULSE[0, 0] = 1.0


def first_zero(outputs: np.ndarray) -> int:
    return int(np.flatnonzero((outputs == 0).all(axis=(0, 2)))[0])


def decay(runner: Runner, slot: int) -> int:
    slots = np.array([slot], np.int32)
    runner.arena.reset(slots)
    return first_zero(runner.step(slots, [PULSE])[0])


async def decay_in_engine(engine: Engine, slot: int) -> int:
    parts: list[Part] = []
    done = asyncio.get_running_loop().create_future()

    def collect(part: Part) -> None:
        parts.append(part)
        if part.complete:
            done.set_result(None)

    slots = np.array([slot], np.int32)
    engine.runner.arena.reset(slots)
    engine.submit(
        EngineFrame(
            slots,
            np.zeros(1, np.int64),
            [PULSE],
            outputs=OutputSelection.ALL,
            source=Source(),
            arrived_s=0.0,
            deadline_s=None,
            on_part=collect,
        )
    )
    await done
    return first_zero(np.concatenate([p.outputs[0] for p in parts], axis=1))


async def main(repository: Path) -> None:
    package = read_package(repository / "decay" / "1")
    # Models are loaded in a worker thread.
    runner = await asyncio.to_thread(Runner, package, RunnerOptions(max_sessions=8))
    engine = Engine(
        runner,
        max_batch_size=8,
        max_slice_steps=NUM_STEPS,
        max_queue_delay_us=0,
        meter=EngineMeter(Metrics(), "decay", "1"),
    )
    found = {"main thread": decay(runner, 1), "worker thread": await asyncio.to_thread(decay, runner, 2)}
    for slot, where, limit_s in ((3, "engine, inline", 1e9), (4, "engine's thread", -1.0)):
        engine_module.INLINE_LIMIT_S = limit_s
        found[where] = await decay_in_engine(engine, slot)
    engine.close()
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    if "--as-served" in sys.argv:
        treat_denormals_as_zero()
    asyncio.run(main(Path(sys.argv[1])))
