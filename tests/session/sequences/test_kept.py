"""A kept answer comes back as it was, for the request that it answered and no other."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tidegate.model.manifest import Manifest
from tidegate.session.sequences.kept import (
    DIGEST_BYTES,
    MAX_OUTPUT_BYTES,
    MAX_REQUEST_ID_BYTES,
    KeptAnswer,
    digest_of,
)
from tidegate.tensor import Array

MANIFEST = Manifest.model_validate(
    {
        "name": "m",
        "version": "1",
        "sha256": "ab" * 32,
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", "time", 2]}],
        "outputs": [
            {"name": "y", "dtype": "float32", "shape": ["batch", "time", 3]},
            {"name": "count", "dtype": "int64", "shape": ["batch", "time"]},
            {"name": "is_late", "dtype": "bool", "shape": ["batch", "time", 2, 1]},
        ],
        "states": [],
    }
)

request_ids = st.text(min_size=1, max_size=MAX_REQUEST_ID_BYTES).filter(
    lambda text: len(text.encode()) <= MAX_REQUEST_ID_BYTES
)


def outputs(num_steps: int, *, seed: int = 0) -> list[Array]:
    """What the model answers to so many steps."""
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=(1, num_steps, 3)).astype(np.float32),
        rng.integers(-(2**63), 2**63, (1, num_steps)),
        rng.random((1, num_steps, 2, 1)) < 0.5,
    ]


@given(request_ids, st.binary(min_size=8, max_size=8), st.integers(0, 2**62), st.integers(1, 40))
def test_an_answer_is_unpacked_as_it_was_packed(
    request_id: str, digest: bytes, first_step: int, num_steps: int
) -> None:
    given_out = outputs(num_steps)
    kept = KeptAnswer.of(request_id, digest, first_step, given_out)

    found = KeptAnswer.unpack(kept.pack())

    assert found == kept
    assert (found.request_id, found.digest, found.next_step) == (request_id, digest, first_step + num_steps)
    arrays = found.arrays(MANIFEST)
    assert arrays is not None
    for array, expected in zip(arrays, given_out, strict=True):
        assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(array, expected)


def test_a_large_answer_is_known_but_not_kept() -> None:
    bytes_per_step = sum(o.nbytes for o in outputs(1))
    most = MAX_OUTPUT_BYTES // bytes_per_step

    kept = KeptAnswer.of("r", bytes(8), 3, outputs(most))
    too_large = KeptAnswer.unpack(KeptAnswer.of("r", bytes(8), 3, outputs(most + 1)).pack())

    assert kept.arrays(MANIFEST) is not None
    assert too_large.arrays(MANIFEST) is None
    assert (too_large.request_id, too_large.first_step, too_large.num_steps) == ("r", 3, most + 1)


def test_what_becomes_of_the_arrays_later_does_not_change_an_answer() -> None:
    given_out = outputs(2)
    expected = given_out[0].copy()
    kept = KeptAnswer.of("r", bytes(8), 0, given_out)

    given_out[0][:] = 0

    arrays = kept.arrays(MANIFEST)
    assert arrays is not None
    np.testing.assert_array_equal(arrays[0], expected)


def test_a_part_of_a_batch_is_kept_alone() -> None:
    batch = [np.repeat(o, 5, axis=0) for o in outputs(2)]
    for i, o in enumerate(batch):
        o[3] = outputs(2, seed=9)[i][0]

    kept = KeptAnswer.of("r", bytes(8), 0, [o[3:4] for o in batch])

    assert kept.outputs is not None
    assert len(kept.outputs) == sum(o.nbytes for o in outputs(2))
    arrays = kept.arrays(MANIFEST)
    assert arrays is not None
    np.testing.assert_array_equal(arrays[0], outputs(2, seed=9)[0])


@given(request_ids, st.integers(1, 600))
def test_the_size_that_is_said_is_never_too_small(request_id: str, num_steps: int) -> None:
    kept = KeptAnswer.of(request_id, bytes(8), 0, outputs(num_steps))

    assert len(kept.pack()) <= kept.packed_bytes <= MAX_OUTPUT_BYTES + 512


def test_other_inputs_have_another_digest() -> None:
    a, b = np.arange(6, dtype=np.float32).reshape(1, 3, 2), np.ones((1, 3, 1), np.int32)

    digests = [
        digest_of([a, b]),
        digest_of([a]),
        digest_of([a + 1, b]),
        digest_of([a[:, :2], b]),
        digest_of([a[:, ::-1], b]),
        digest_of([a, 2 * b]),
    ]

    assert len(set(digests)) == len(digests)
    assert digest_of([a.copy(), b.copy()]) == digests[0]
    assert {len(d) for d in digests} == {DIGEST_BYTES}


def test_the_digest_is_of_the_values_in_their_order_and_not_of_their_place_in_memory() -> None:
    a = np.arange(24, dtype=np.float32).reshape(1, 6, 4)
    spread = np.zeros((2, 12, 8), np.float32)
    spread[:1, ::2, ::2] = a

    assert digest_of([spread[:1, ::2, ::2]]) == digest_of([a])
