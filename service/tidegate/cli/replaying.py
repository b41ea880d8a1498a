"""The rows that an earlier run of `tidegate stream` answered: how many steps they were, and sending them again.

The output file says which rows are done, and the input and the model's rules say what steps they made: a
row may be several, because steps fill the gap before it, and a dropped or refused one is none. So nothing
but the two files is needed to know where the session stands.

The session cannot be opened before that is known, and which steps the server lacks is known only then. So the
rows are read twice where a row may be several steps, and never held.
"""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.cli.kept_answers import KeptAnswers
from tidegate.cli.rows import joined_steps
from tidegate.client import Session
from tidegate.errors import ConfigError, InvalidRequest
from tidegate.model.rows import RowReader
from tidegate.model.steps import Steps

MAX_CALL_STEPS = 1024
"""Steps sent at a time, give or take a row's."""


def count_steps(reader: RowReader, kept: KeptAnswers) -> int:
    """The step behind the rows that have answers.

    Args:
        reader: The input, from its first row on; afterwards it stands behind them.
        kept: The output.

    Raises:
        ConfigError: The input has fewer rows, or others.
        InvalidRequest: A row that has answers is refused.
    """
    return kept.first_step + sum(steps.num_steps for steps in _answered(reader, kept))


async def send_again(reader: RowReader, kept: KeptAnswers, session: Session) -> None:
    """Send what the server lacks of the rows that have answers.

    Args:
        reader: The input, from its first row on; afterwards it stands behind them.
        kept: The output.
        session: Opened as one that has their answers.

    Raises:
        ConfigError: The input has fewer rows, or others.
        InvalidRequest: A row that has answers is refused.
    """
    step, waiting, num_waiting = kept.first_step, list[Steps](), 0
    for steps in _answered(reader, kept):
        # A state may be that of any step, so the server may have some of a row's.
        lacking = steps.since(session.next_step - step)
        step += steps.num_steps
        if lacking.num_steps:
            waiting.append(lacking)
            num_waiting += lacking.num_steps
        if num_waiting >= MAX_CALL_STEPS:
            await _send(waiting, session)
            waiting, num_waiting = [], 0
    if num_waiting:
        await _send(waiting, session)
    if session.next_step != step:
        raise ConfigError(
            f"output: expected a session at step {step}, where its answers end, got one at {session.next_step}"
        )


async def _send(rows: list[Steps], session: Session) -> None:
    await session.run(joined_steps(session.model, rows), outputs="none")
    session.ack(session.next_step)


def _answered(reader: RowReader, kept: KeptAnswers) -> Iterator[Steps]:
    for number, is_answered in enumerate(kept.answered):
        refusal, steps = None, None
        try:
            steps = next(reader).steps
        except StopIteration:
            raise _other_input(
                f"one row per row of the input, got {len(kept.answered)} for {number}"
            ) from None
        except InvalidRequest as error:
            refusal = error
        if not kept.is_of(number, reader.time_text):
            raise _other_input(f"the time {reader.time_text!r} in row {number + 1}, got another one")
        if refusal is not None and is_answered:
            raise refusal
        if steps is None or not is_answered:
            continue
        if steps.num_steps == 0:
            raise _other_input(f"no answer to row {number + 1}, which is dropped, got one")
        yield steps


def _other_input(expected: str) -> ConfigError:
    return ConfigError(
        f"output: expected {expected}: it belongs to another input; choose another output for this one"
    )
