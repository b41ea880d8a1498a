"""Foreign servers with one habit each."""

from __future__ import annotations

import grpc

from support.peer_parts import Cut, PeerStream, Resume
from support.sum_peer import SumPeer
from tidegate.v1 import stream_pb2 as pb


class CutsOnce(SumPeer):
    """Ends its first stream when it gets its second frame, before or after running some of it."""

    def __init__(self, code: grpc.StatusCode, *, runs: int = 0, tells: bool = False) -> None:
        super().__init__()
        self.code = code
        self.runs = runs
        self.tells = tells
        self.falls_back_by = 0

    def resumes_at(self, resume: Resume) -> int:
        have_here = len(self.states[resume.session_id]) - 1
        return max(resume.held_from, min(resume.have, have_here) - self.falls_back_by)

    async def on_frame(self, stream: PeerStream, frame: pb.Frame) -> bool:
        if stream.number > 1 or stream.num_frames < 2:
            return False
        if self.runs:
            result = self.run(stream, frame, self.runs)
            if self.tells:
                await stream.write(pb.StreamResponse(result=result))
        raise Cut(self.code)


class DurableOnAck(SumPeer):
    """Reports a step as durable as soon as it is acknowledged, until a test makes it stick."""

    is_stuck = False

    async def _dispatch(self, stream: PeerStream, message: pb.StreamRequest) -> None:
        before = dict(self.acks)
        await super()._dispatch(stream, message)
        news = {name: step for name, step in self.acks.items() if before.get(name) != step}
        for name, step in news.items():
            if not self.is_stuck:
                await self.tell_durable(stream, name, step)
