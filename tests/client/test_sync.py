"""The client without asyncio does what the other one does."""

from __future__ import annotations

import inspect
import socket
import threading
from uuid import uuid4

import numpy as np
import pytest

from support.server import ServerProcess
from tidegate.client import AsyncClient, CallTimedOut, Client, Fleet, Session, SyncFleet, SyncSession
from tidegate.client.calls import ModelCalls, SessionCalls
from tidegate.client.sync import SyncModelCalls, SyncSessionCalls
from tidegate.errors import InvalidRequest, SessionNotFound

X = np.random.default_rng(4).normal(0, 1, (10, 3)).astype(np.float32)

PAIRS = [
    (Client, AsyncClient),
    (SyncSession, Session),
    (SyncFleet, Fleet),
    (SyncModelCalls, ModelCalls),
    (SyncSessionCalls, SessionCalls),
]


@pytest.mark.parametrize(("plain", "asynchronous"), PAIRS, ids=lambda c: c.__name__)
def test_names_and_arguments_are_the_same(plain: type, asynchronous: type) -> None:
    methods = [n for n in vars(plain) if not n.startswith("_") and callable(getattr(plain, n))]

    assert methods
    for name in methods:
        parameters = inspect.signature(getattr(plain, name)).parameters
        assert parameters == inspect.signature(getattr(asynchronous, name)).parameters, name


def test_a_session_steps_without_asyncio(small_server: ServerProcess) -> None:
    with Client(small_server.address) as client, client.session("lstm") as session:
        by_step = np.stack([session.step(x) for x in X[:5]])
        rest = session.run({"x": X[5:]}, outputs="all")["y"]
        with client.session("lstm") as other:
            np.testing.assert_array_equal(np.concatenate([by_step, rest]), other.steps(X))

        assert (session.next_step, session.durable_step, session.model.name) == (10, 0, "lstm")


def test_a_fleet_steps_without_asyncio(small_server: ServerProcess) -> None:
    names = [f"{uuid4().hex}-{i}" for i in range(4)]

    with Client(small_server.address) as client:
        with client.fleet("lstm", names) as fleet:
            y = fleet.steps(np.stack([X] * 4))
            fleet.end()

        assert (y.shape, len(fleet), list(fleet.session_ids)) == ((4, 10, 16), 4, names)
        with pytest.raises(SessionNotFound):
            client.sessions.get(names[0])


def test_errors_come_through(small_server: ServerProcess) -> None:
    with Client(small_server.address) as client, pytest.raises(SessionNotFound):
        client.sessions.get("nope")


def test_a_call_that_timed_out_offers_its_answer_without_asyncio(small_server: ServerProcess) -> None:
    with Client(small_server.address) as client, client.session("lstm") as session:
        with pytest.raises(CallTimedOut) as caught:
            session.run({"x": X}, timeout_s=0)
        late = caught.value.retry(timeout_s=20)

        with client.session("lstm") as other:
            np.testing.assert_array_equal(late["y"], other.steps(X))


def test_acks_and_flush_come_through(small_server: ServerProcess) -> None:
    with (
        Client(small_server.address) as client,
        client.session("lstm", ack="explicit") as session,
        client.fleet("lstm", [uuid4().hex, uuid4().hex], ack="explicit") as fleet,
    ):
        session.steps(X)
        fleet.steps(np.stack([X, X]))
        # Nothing was acknowledged, so nothing is waited for.
        client.flush(timeout_s=20)
        session.flush(timeout_s=20)
        fleet.flush(timeout_s=20)

        session.ack(10)
        fleet.ack([10, 10])
        with pytest.raises(InvalidRequest, match="expected at most 10, got 11"):
            session.ack(11)


def test_threads_may_share_a_client(small_server: ServerProcess) -> None:
    answers: dict[int, np.ndarray] = {}

    def feed(client: Client, number: int) -> None:
        with client.session("lstm") as session:
            answers[number] = np.stack([session.step(x) for x in X])

    with Client(small_server.address) as client:
        threads = [threading.Thread(target=feed, args=(client, n)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(answers) == 4
    for y in answers.values():
        np.testing.assert_array_equal(y, answers[0])


def test_a_closed_client_says_so(small_server: ServerProcess) -> None:
    client = Client(small_server.address)
    with client, client.session("lstm") as session:
        session.step(X[0])

    with pytest.raises(InvalidRequest, match="expected an open one"):
        session.step(X[0])


def test_a_client_leaves_no_thread_behind(small_server: ServerProcess) -> None:
    with Client(small_server.address) as client:
        client.models.list()
        assert "tidegate client" in {t.name for t in threading.enumerate()}

    assert "tidegate client" not in {t.name for t in threading.enumerate()}


def test_threads_that_still_wait_when_the_client_closes_are_told() -> None:
    outcomes: list[BaseException] = []
    is_calling = threading.Event()

    def ask(client: Client) -> None:
        is_calling.set()
        try:
            client.models.list()
        except BaseException as error:
            outcomes.append(error)

    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with Client(f"127.0.0.1:{nobody.getsockname()[1]}") as client:
            thread = threading.Thread(target=ask, args=(client,), daemon=True)
            thread.start()
            is_calling.wait()
        thread.join(5)

    assert not thread.is_alive()
    assert [type(outcome) for outcome in outcomes] == [InvalidRequest]
