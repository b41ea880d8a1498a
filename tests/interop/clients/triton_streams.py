"""tritonclient's blocking client: streams, whose answers come to a callback."""

from __future__ import annotations

import queue

import tritonclient.grpc as triton
from scenario import main
from triton_requests import Plain, arguments, plain

ANSWER_TIMEOUT_S = 30.0


class Streaming:
    """A client with its one stream, whose answers wait in a queue; use it as `with Streaming(...)`."""

    def __init__(self, address: str) -> None:
        self.client = triton.InferenceServerClient(address)
        self.answers: queue.Queue[Plain] = queue.Queue()
        self.client.start_stream(lambda result, error: self.answers.put(plain(result, error)))

    def __enter__(self) -> Streaming:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.stop_stream()
        self.client.close()

    def send(self, request: Plain) -> None:
        self.client.async_stream_infer(**arguments(request))

    def next(self) -> Plain:
        return self.answers.get(timeout=ANSWER_TIMEOUT_S)

    def ask(self, request: Plain) -> Plain:
        self.send(request)
        return self.next()


def one_by_one(address: str, requests: list[Plain]) -> list[Plain]:
    """Each request is sent when the one before is answered."""
    with Streaming(address) as streaming:
        return [streaming.ask(request) for request in requests]


def pipelined(address: str, requests: list[Plain]) -> list[Plain]:
    """All requests are sent before any answer is looked at. Answers as they came."""
    with Streaming(address) as streaming:
        for request in requests:
            streaming.send(request)
        return [streaming.next() for _ in requests]


def in_turns(address: str, requests: list[Plain]) -> list[Plain]:
    """Two streams; each request is sent on the other one, when the one before is answered."""
    with Streaming(address) as left, Streaming(address) as right:
        return [(left, right)[i % 2].ask(request) for i, request in enumerate(requests)]


def both_at_once(address: str, requests: list[Plain]) -> list[list[Plain]]:
    """Two streams, and every other request on each, without waiting. The answers of each stream."""
    with Streaming(address) as left, Streaming(address) as right:
        for i, request in enumerate(requests):
            (left, right)[i % 2].send(request)
        return [[left.next() for _ in requests[0::2]], [right.next() for _ in requests[1::2]]]


def cancelled(address: str, before: Plain, given_up: Plain, after: Plain) -> list[Plain]:
    """A request that is answered, one whose stream is cancelled, and one that is answered on the next stream."""
    with Streaming(address) as streaming:
        first = streaming.ask(before)
        streaming.send(given_up)
        streaming.client.stop_stream(cancel_requests=True)
        ended = streaming.next()
    with Streaming(address) as streaming:
        return [first, ended, streaming.ask(after)]


if __name__ == "__main__":
    main(globals())
