"""The small world as a machine that hypothesis drives: whatever may happen, in whatever order."""

from __future__ import annotations

from itertools import count

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from support.small_world.client import Client
from support.small_world.messages import Connection, Open, promise
from support.small_world.rules import Rules
from support.small_world.server import Server
from support.small_world.store import Store
from support.small_world.witness import Witness

WHO = st.sampled_from([0, 0, 1])
FEW = st.integers(0, 2)
WHERE = st.integers(0, 5)
MODES = st.sampled_from(["create", "resume", "create-or-resume"])


class SmallWorld(RuleBasedStateMachine):
    """Clients, a network, a server and its store; the rules that the server obeys are a class attribute."""

    server_rules: type[Rules] = Rules

    def __init__(self) -> None:
        super().__init__()
        self.numbers = count(1)
        self.store, self.witness = Store(), Witness()
        self.clients: list[Client] = []
        self.connections: list[Connection] = []
        self._start_server()

    @initialize(mode=MODES)
    def two_clients(self, mode: str) -> None:
        self.clients = [Client(next(self.numbers), m, self.witness) for m in ("create", mode)]

    # Clients.

    @rule(who=WHO)
    def connect(self, who: int) -> None:
        """What was said on the connection before may still arrive."""
        if not self.clients[who].error:
            self.connections = [*self.connections[-5:], self.clients[who].connect(next(self.numbers))]

    @rule(who=WHO, num_new=FEW, keeps=st.booleans())
    def speak(self, who: int, num_new: int, keeps: bool) -> None:
        """What is said is under way."""
        self.clients[who].send(tuple(next(self.numbers) for _ in range(num_new)))
        if keeps:
            self.clients[who].keep()
            self.clients[who].ack()

    @rule(who=WHO, num_new=st.integers(1, 3), keeps=st.booleans(), is_new=st.booleans())
    def talk(self, who: int, num_new: int, keeps: bool, is_new: bool) -> None:
        """Undisturbed: all that was and is to be said, answered."""
        if self.clients[who].error:
            self.restart_client(who, measures_anew=False, mode="resume")
        connection = self.clients[who].connection
        if is_new or connection is None or not connection.at_server:
            self.connect(who)
        self._pump(who)
        self.speak(who, num_new, keeps=False)
        self._pump(who)
        self.speak(who, 0, keeps=keeps)
        self._pump(who)

    @rule(who=WHO, measures_anew=st.booleans(), mode=MODES)
    def restart_client(self, who: int, measures_anew: bool, mode: str) -> None:
        if self.clients[who].error in ("", "DISPLACED"):
            self.clients[who].restart(next(self.numbers), measures_anew=measures_anew)
        else:
            self.clients[who] = Client(next(self.numbers), mode, self.witness)

    # The network.

    @rule(where=WHERE, which=FEW, up=st.booleans())
    def carry(self, where: int, which: int, up: bool) -> None:
        """One message arrives, perhaps before those that were sent earlier."""
        busy = [c for c in self.connections if (c.to_server if up else c.to_client)]
        if busy:
            (self._deliver_up if up else self._deliver_down)(busy[where % len(busy)], which)

    @rule(where=WHERE, which=FEW, up=st.booleans(), times=st.sampled_from([0, 2]))
    def lose_or_repeat(self, where: int, which: int, up: bool, times: int) -> None:
        queues = [queue for c in self.connections if (queue := c.to_server if up else c.to_client)]
        messages = queues[where % len(queues)] if queues else []
        # Not an Open: it is the first message of its connection, and transports do not repeat those.
        if which < len(messages) and not isinstance(messages[which], Open):
            messages[which : which + 1] = messages[which : which + 1] * times

    @rule(where=WHERE)
    def notice_a_cut(self, where: int) -> None:
        for connection in self.connections[where : where + 1]:
            connection.at_server = False
            if connection is self.server.holder:
                self.server.detach()

    # The server and its store.

    @rule(commits=st.booleans())
    def checkpoint(self, commits: bool) -> None:
        self.server.begin_checkpoint()
        if commits:
            self.server.commit()

    @rule()
    def commit(self) -> None:
        self.server.commit()

    @rule(what=st.sampled_from(["passivate", "passivate", "nothing", "nothing", "expire", "end"]))
    def something_rare(self, what: str) -> None:
        if what == "passivate":
            self.server.passivate()
        elif what == "expire":
            self.server.expire()
        elif what == "end":
            self.server.end()

    @rule(lost_commits=st.sampled_from([0, 0, 1, 2]))
    def crash(self, lost_commits: int) -> None:
        if self.store.crash(lost_commits):
            self.witness.upset(is_buried=self.store.disk.is_buried)
            self.witness.lost_tail = True
        for connection in self.connections:
            connection.at_server = False
        self._start_server()

    def teardown(self) -> None:
        """In peace, every client gets all its answers, or an error."""
        for who, client in enumerate(self.clients):
            self.connect(who)
            self._pump(who)
            self.speak(who, 0, keeps=False)
            self._pump(who)
            promise(bool(client.error) or client.seen == len(client.inputs), "a client waits for ever")

    def _start_server(self) -> None:
        self.server = Server(self.server_rules(), self.store, self.witness, lambda: next(self.numbers))

    def _deliver_up(self, connection: Connection, which: int) -> None:
        message = connection.to_server.pop(which % len(connection.to_server))
        if connection.at_server:
            self.server.receive(connection, message)

    def _deliver_down(self, connection: Connection, which: int) -> None:
        message = connection.to_client.pop(which % len(connection.to_client))
        for client in self.clients:
            client.receive(connection, message)

    def _pump(self, who: int) -> None:
        while (connection := self.clients[who].connection) and (connection.to_server or connection.to_client):
            while connection.to_server:
                self._deliver_up(connection, 0)
            while connection.to_client:
                self._deliver_down(connection, 0)
