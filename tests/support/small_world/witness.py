"""The scalar model: what has truly happened to the session, written down by someone who forgets nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from support.small_world.messages import State, promise


@dataclass(frozen=True)
class Opening:
    """What was true when the session was attached."""

    instance: int
    past: State
    num_upsets: int


@dataclass
class Witness:
    """The one true past of the session.

    Attributes:
        past: The inputs of all its steps, of the branch that the last client to attach is on.
        openings: Every attach, by its epoch.
        num_upsets: How often something happened that may take the state from a client: the store lost
            its tail, the session expired, or it was ended.
    """

    past: State = ()
    openings: dict[int, Opening] = field(default_factory=dict)
    num_upsets: int = 0
    is_buried: bool = False
    lost_tail: bool = False

    def opened(self, instance: int, epoch: int, step: int, state: State) -> None:
        """A client goes on from `state`."""
        promise(not self.is_buried, "a lost session is restarted unknowingly")
        if self.lost_tail:  # What is true now, nobody can tell who was told of no other past.
            self.past, self.lost_tail = state, False
        promise(step <= len(self.past), "a session goes on from a step that it never reached")
        self.past = self.past[:step]
        self.openings[epoch] = Opening(instance, self.past, self.num_upsets)

    def created(self, instance: int, epoch: int) -> None:
        """A client begins a new session."""
        self.past, self.lost_tail = (), False
        self.opened(instance, epoch, 0, ())

    def stepped(self, inputs: State) -> None:
        """Steps were applied."""
        self.past += inputs

    def upset(self, *, is_buried: bool) -> None:
        """The session expired, was ended, or its store lost its tail."""
        self.num_upsets += 1
        self.is_buried = is_buried

    def others_since(self, epoch: int, instance: int) -> bool:
        """Whether anyone else, be it an older process of the application, has attached after this epoch."""
        return any(e > epoch and o.instance != instance for e, o in self.openings.items())
