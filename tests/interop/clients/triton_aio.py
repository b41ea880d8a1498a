"""tritonclient's asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import tritonclient.grpc.aio as triton
from scenario import main
from triton_requests import Plain, arguments, plain
from tritonclient.utils import InferenceServerException


async def calls(address: str, requests: list[Plain]) -> list[Plain]:
    """One `infer` after the other."""
    async with triton.InferenceServerClient(address) as client:
        return [await _infer(client, request) for request in requests]


async def stream(address: str, requests: list[Plain]) -> list[Plain]:
    """One stream; each request is sent when the one before is answered."""
    turns: asyncio.Queue[Plain | None] = asyncio.Queue()

    async def source() -> AsyncIterator[Plain]:
        while (request := await turns.get()) is not None:
            yield arguments(request)

    told = []
    async with triton.InferenceServerClient(address) as client:
        answers = client.stream_infer(source())
        for request in requests:
            turns.put_nowait(request)
            told.append(plain(*await anext(answers)))
        turns.put_nowait(None)
        rest = [plain(*answer) async for answer in answers]
    return [*told, *rest]


async def _infer(client: triton.InferenceServerClient, request: Plain) -> Plain:
    try:
        return plain(await client.infer(**arguments(request)), None)
    except InferenceServerException as error:
        return plain(None, error)


if __name__ == "__main__":
    main(globals())
