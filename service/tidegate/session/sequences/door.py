"""Where requests of sequences come in.

A request of a sequence that is in memory, and at which nobody works, goes straight to those that wait for the next
batch. All others wait in the line of their id.

Only the event loop's thread calls this.
"""

from __future__ import annotations

from tidegate.engine.pool import LoadedModel, ModelPool
from tidegate.errors import ServerStopping
from tidegate.session.checkpointing import Checkpointer
from tidegate.session.creating import Creator
from tidegate.session.holds import Holds
from tidegate.session.keeper import StoreKeeper
from tidegate.session.limits import SessionLimits
from tidegate.session.passivating import Passivator
from tidegate.session.registry import Registry
from tidegate.session.returning import Returner
from tidegate.session.sequences.answering import Answers
from tidegate.session.sequences.ending import Ender
from tidegate.session.sequences.entering import Entry
from tidegate.session.sequences.lines import Lines
from tidegate.session.sequences.request import SequenceRequest
from tidegate.session.sequences.row import as_refusal, tell
from tidegate.session.sequences.storing import Storing
from tidegate.session.sequences.turns import Turns
from tidegate.session.table import SessionTable
from tidegate.telemetry.metrics import Metrics


class SequenceDoor:
    """The sequences of one server."""

    def __init__(
        self,
        pool: ModelPool,
        registry: Registry,
        keeper: StoreKeeper,
        checkpointer: Checkpointer,
        passivator: Passivator,
        holds: Holds,
        creator: Creator,
        returner: Returner,
        limits: SessionLimits,
        metrics: Metrics,
    ) -> None:
        """Prepare; see `SessionManager` for the parts."""
        is_early = limits.sequence_durability == "background"
        self._registry = registry
        self._holds = holds
        self._limits = limits
        self._metrics = metrics
        self._is_stopping = False
        self._answers: dict[SessionTable, Answers] = {}
        self._ender = Ender(registry, keeper, checkpointer)
        entry = Entry(
            registry, keeper, passivator, creator, returner, limits, runs_ahead=keeper.is_durable and is_early
        )
        self._turns = Turns(pool, registry, keeper, entry, self._ender, self._answers_of, metrics)
        self._lines = Lines(holds, self._turns.serve, self._ender.leave_unsaved)
        self._turns.leave_if_spoilt = self._lines.leave_if_spoilt
        self._storing = Storing(checkpointer, keeper, self._lines.spoilt)
        self._withhold = self._storing.withhold if keeper.is_durable and not is_early else None

    def submit(self, request: SequenceRequest) -> None:
        """Take a request; what becomes of it goes to `request.reply`, errors too."""
        try:
            self._submit(request)
        except Exception as error:
            tell(request, as_refusal(error))

    def drain(self) -> None:
        """Take nothing new; what was taken is answered."""
        self._is_stopping = True

    @property
    def is_busy(self) -> bool:
        """Whether any request is at work or waits."""
        gatherings = (answers.gathering for answers in self._answers.values())
        return bool(self._lines.ids) or self._storing.is_busy or any(g.is_busy for g in gatherings)

    async def finish_ends(self) -> None:
        """Delete ended sequences that the store could not delete before."""
        await self._ender.finish_all()

    def check_integrity(self) -> None:
        """Raise AssertionError if the books do not add up."""
        for answers in self._answers.values():
            answers.gathering.check_integrity()

    def forget(self, model: LoadedModel) -> None:
        """A version without sessions is unloaded."""
        self._answers.pop(self._registry.table_of(model), None)

    def _submit(self, request: SequenceRequest) -> None:
        if self._is_stopping:
            raise ServerStopping("the server is stopping")
        session_id = request.key.session_id
        place = self._turns.live(session_id)
        is_plain = place is not None and not (request.starts or request.ends)
        if place is None or not is_plain or session_id in self._lines.ids or session_id in self._holds.held:
            self._lines.join(request)
            return
        answers = self._answers_of(place.table)
        answers.gathering.add(answers.row(request, place.slot))

    def _answers_of(self, table: SessionTable) -> Answers:
        answers = self._answers.get(table)
        if answers is None:
            repeats = self._metrics.sequence_repeats.labels(table.key.name)
            answers = self._answers[table] = Answers(table, self._withhold, self._limits, repeats.inc)
        return answers
