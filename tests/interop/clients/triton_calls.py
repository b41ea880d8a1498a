"""tritonclient's blocking client: calls with one answer."""

from __future__ import annotations

import queue
from typing import Any

import tritonclient.grpc as triton
from scenario import main
from triton_requests import Plain, arguments, plain
from tritonclient.utils import InferenceServerException

ANSWER_TIMEOUT_S = 30.0


def calls(address: str, requests: list[Plain]) -> list[Plain]:
    """One `infer` after the other."""
    with triton.InferenceServerClient(address) as client:
        return [_infer(client, request) for request in requests]


def ask(address: str, methods: list[tuple[str, Plain]]) -> list[Any]:
    """Call the client's other methods by name: what each returns, or what it is refused with."""
    with triton.InferenceServerClient(address) as client:
        return [_ask(client, name, keywords) for name, keywords in methods]


def cancelled(address: str, before: Plain, given_up: Plain, after: Plain) -> list[Plain]:
    """A request that is answered, one that is cancelled once it is sent, and one that is answered again."""
    told: queue.Queue[Plain] = queue.Queue()
    with triton.InferenceServerClient(address) as client:
        first = _infer(client, before)
        call = client.async_infer(
            callback=lambda result, error: told.put(plain(result, error)), **arguments(given_up)
        )
        call.cancel()
        return [first, told.get(timeout=ANSWER_TIMEOUT_S), _infer(client, after)]


def _infer(client: triton.InferenceServerClient, request: Plain) -> Plain:
    try:
        return plain(client.infer(**arguments(request)), None)
    except InferenceServerException as error:
        return plain(None, error)


def _ask(client: triton.InferenceServerClient, name: str, keywords: Plain) -> Any:
    try:
        return getattr(client, name)(**keywords)
    except InferenceServerException as error:
        return plain(None, error)


if __name__ == "__main__":
    main(globals())
