"""The last answer of a sequence, kept for a client that did not get it and asks again.

A client of the Open Inference door knows no step numbers. If it repeats its last request under the same
request id, it is given the answer that it missed instead of a second step. The answer is kept in memory and,
with the state that it belongs to, in the store.

An answer whose outputs are large is kept without them: a repeat cannot be answered then, but it is still
known for what it is, and never applied twice.

Pure values, no I/O. Sequences make them, the session table holds them, the checkpointer has them stored.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from tidegate.model.manifest import Manifest
from tidegate.tensor import Array, num_elements

MAX_OUTPUT_BYTES = 16 * 1024
"""Outputs that are kept: memory and store hold as much for each sequence that gives its requests ids."""

MAX_REQUEST_ID_BYTES = 256
"""Longest id, in UTF-8, of a request that belongs to a sequence: whoever takes requests refuses longer ones."""

DIGEST_BYTES = 8

_HEADER = struct.Struct(f"<{DIGEST_BYTES}sqqHi")
"""Digest, first step, number of steps, bytes of the request id, bytes of the outputs or _NOT_KEPT."""

_NOT_KEPT = -1


@dataclass(slots=True)
class KeptAnswer:
    """The answer to the last request that a sequence accepted. Nobody changes it once it is made.

    Attributes:
        request_id: The request's id; not empty, at most MAX_REQUEST_ID_BYTES in UTF-8.
        digest: Of the request's inputs, as `digest_of` makes it.
        first_step: Number of the first step that it answers.
        num_steps: How many it answers.
        outputs: One output of the model after the other, little-endian in C order; None if there were more than
            MAX_OUTPUT_BYTES.
    """

    request_id: str
    digest: bytes
    first_step: int
    num_steps: int
    outputs: bytes | None

    @classmethod
    def of(cls, request_id: str, digest: bytes, first_step: int, outputs: Sequence[Array]) -> Self:
        """Keep an answer; the arrays are copied.

        Args:
            request_id: As above.
            digest: As above.
            first_step: As above.
            outputs: One per output of the model, `[1, T, step_shape...]`, at least one.
        """
        is_small = sum(output.nbytes for output in outputs) <= MAX_OUTPUT_BYTES
        kept = b"".join([output.tobytes() for output in outputs]) if is_small else None
        return cls(request_id, digest, first_step, outputs[0].shape[1], kept)

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """The answer that `pack` was given; `packed` is as it was made, which the store checks."""
        digest, first_step, num_steps, id_bytes, output_bytes = _HEADER.unpack_from(packed)
        start = _HEADER.size + id_bytes
        outputs = None if output_bytes == _NOT_KEPT else packed[start:]
        assert len(packed) == start + max(0, output_bytes), "a kept answer has another length than it says"
        return cls(packed[_HEADER.size : start].decode(), digest, first_step, num_steps, outputs)

    @property
    def next_step(self) -> int:
        """Steps applied to the state that it belongs to."""
        return self.first_step + self.num_steps

    @property
    def packed_bytes(self) -> int:
        """At most so many bytes are what `pack` gives."""
        return _HEADER.size + MAX_REQUEST_ID_BYTES + len(self.outputs or b"")

    def pack(self) -> bytes:
        """As bytes, for the store."""
        request_id = self.request_id.encode()
        assert len(request_id) <= MAX_REQUEST_ID_BYTES, "a request id is too long"
        output_bytes = _NOT_KEPT if self.outputs is None else len(self.outputs)
        header = _HEADER.pack(self.digest, self.first_step, self.num_steps, len(request_id), output_bytes)
        return header + request_id + (self.outputs or b"")

    def arrays(self, manifest: Manifest) -> list[Array] | None:
        """The outputs, or None if they were not kept.

        Args:
            manifest: Of the model version that gave them.

        Returns:
            One array per output of the model, `[1, num_steps, step_shape...]`, read-only.
        """
        if self.outputs is None:
            return None
        arrays, start = [], 0
        for output in manifest.outputs:
            count = self.num_steps * num_elements(output.step_shape)
            flat = np.frombuffer(self.outputs, output.dtype.numpy, count, start)
            arrays.append(flat.reshape(1, self.num_steps, *output.step_shape))
            start += flat.nbytes
        assert start == len(self.outputs), "a kept answer is of another model"
        return arrays


def digest_of(inputs: Sequence[Array]) -> bytes:
    """What tells the inputs of a repeated request from other ones, DIGEST_BYTES long.

    Args:
        inputs: One per input of the model, `[1, T, step_shape...]`.
    """
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for values in inputs:
        digest.update(np.ascontiguousarray(values).data)
    return digest.digest()
