"""The small world as a machine that hypothesis drives: whatever may happen, in whatever order."""

from __future__ import annotations

from itertools import count

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from support.small_world.client import Client
from support.small_world.messages import Ack, Connection, Open, Step, ToClient, ToServer, promise
from support.small_world.rules import Rules
from support.small_world.server import Server
from support.small_world.store import Store
from support.small_world.witness import Witness

WHO = st.sampled_from([0, 0, 1])
FEW = st.integers(0, 2)
WHERE = st.integers(0, 5)
OFTEN = st.sampled_from([True, True, False])
RARELY = st.sampled_from([False, False, True])
MODES = st.sampled_from(["create", "resume", "create-or-resume"])


class SmallWorld(RuleBasedStateMachine):
    """Clients, a network, a server and its store; the rules that the server obeys are a class attribute.

    The fewer rules the machine chooses from, the sooner it puts five of them in an order that hurts:
    what is alike is one rule.
    """

    server_rules: type[Rules] = Rules

    def __init__(self) -> None:
        super().__init__()
        self.numbers = count(1)
        self.store, self.witness = Store(), Witness()
        self.clients: list[Client] = []
        self.connections: list[Connection] = []
        self._start_server()

    @initialize(mode=MODES, start=st.sampled_from(["fresh", "late message", "left branch"]))
    def two_clients(self, mode: str, start: str) -> None:
        """Some worlds begin with a history that few random ways lead to."""
        self.clients = [Client(next(self.numbers), m, self.witness) for m in ("create", mode)]
        if start == "late message":
            self._connect(0)
            self.talk(0, num_new=2, keeps=True, is_new=True)
        elif start == "left branch":
            self.talk(0, num_new=2, keeps=False, is_new=True)
            self.checkpoint(begins=True, commits=True)
            self.restart_client(0, measures_anew=True, mode="resume")
            self.talk(0, num_new=3, keeps=True, is_new=True)

    # Clients.

    @rule(who=WHO, num_new=st.integers(1, 3), keeps=st.booleans(), is_new=RARELY)
    def talk(self, who: int, num_new: int, keeps: bool, is_new: bool) -> None:
        """Undisturbed: all that was and is to be said, answered; on a new connection, or the last one."""
        if self.clients[who].error:
            self.restart_client(who, measures_anew=False, mode="resume")
        connection = self.clients[who].connection
        if is_new or connection is None or not connection.at_server:
            self._connect(who)
        self._pump(who)
        self._speak(who, num_new, keeps=False)
        self._pump(who)
        self._speak(who, 0, keeps=keeps)
        self._pump(who)

    @rule(who=WHO, num_new=FEW, keeps=st.booleans(), is_new=OFTEN)
    def speak(self, who: int, num_new: int, keeps: bool, is_new: bool) -> None:
        """Something is said and under way; what was said on an older connection may still arrive."""
        if is_new:
            self._connect(who)
        self._speak(who, num_new, keeps)

    @rule(who=WHO, measures_anew=st.booleans(), mode=MODES)
    def restart_client(self, who: int, measures_anew: bool, mode: str) -> None:
        if self.clients[who].error in ("", "DISPLACED"):
            self.clients[who].restart(next(self.numbers), measures_anew=measures_anew)
        else:
            self.clients[who] = Client(next(self.numbers), mode, self.witness)

    # The network.

    @rule(where=WHERE, which=FEW, up=OFTEN, times=st.sampled_from([1, 1, 0, 2]))
    def carry(self, where: int, which: int, up: bool, times: int) -> None:
        """One message arrives, perhaps before those that were sent earlier; or never, or twice."""
        busy = [c for c in self.connections if (c.to_server if up else c.to_client)]
        if not busy:
            return
        connection = busy[where % len(busy)]
        message = self._message(connection, which, up)
        # An Open is the first message of its connection, and transports do not repeat those.
        for _ in range(min(times, 1) if isinstance(message, Open) else times):
            self._deliver(connection, message)

    @rule(where=WHERE)
    def notice_a_cut(self, where: int) -> None:
        for connection in self.connections[where : where + 1]:
            connection.at_server = False
            if connection is self.server.holder:
                self.server.detach()

    # The server and its store.

    @rule(begins=OFTEN, commits=OFTEN)
    def checkpoint(self, begins: bool, commits: bool) -> None:
        if begins:
            self.server.begin_checkpoint()
        if commits:
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
            self._connect(who)
            self._pump(who)
            self._speak(who, 0, keeps=False)
            self._pump(who)
            promise(bool(client.error) or client.seen == len(client.inputs), "a client waits for ever")

    def _start_server(self) -> None:
        self.server = Server(self.server_rules(), self.store, self.witness, lambda: next(self.numbers))

    def _connect(self, who: int) -> None:
        if not self.clients[who].error:
            self.connections = [*self.connections[-5:], self.clients[who].connect(next(self.numbers))]

    def _speak(self, who: int, num_new: int, keeps: bool) -> None:
        self.clients[who].send(tuple(next(self.numbers) for _ in range(num_new)))
        if keeps:
            self.clients[who].keep()
            self.clients[who].ack()

    def _message(self, connection: Connection, which: int, up: bool) -> ToServer | ToClient:
        queue: list[ToServer] | list[ToClient] = connection.to_server if up else connection.to_client
        return queue.pop(which % len(queue))

    def _deliver(self, connection: Connection, message: ToServer | ToClient) -> None:
        if not isinstance(message, Open | Step | Ack):
            for client in self.clients:
                client.receive(connection, message)
        elif connection.at_server:
            self.server.receive(connection, message)

    def _pump(self, who: int) -> None:
        while (connection := self.clients[who].connection) and (connection.to_server or connection.to_client):
            self._deliver(connection, self._message(connection, 0, up=bool(connection.to_server)))
