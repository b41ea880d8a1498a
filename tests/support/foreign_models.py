"""All foreign models that the tests serve, by name."""

from __future__ import annotations

from support.foreign_layouts import (
    batch_last,
    batch_last_inside,
    fixed_batch,
    flat_vectors,
    packed_in_if,
    packed_on_last_axis,
    separate_layers,
    unlike_ranks,
)
from support.foreign_tensors import (
    answer_is_state,
    bidirectional,
    extra_outputs,
    half_precision,
    not_exact,
    several_inputs,
    untold_shapes,
    whole_numbers,
)

FOREIGN_MODELS = {
    make.__name__: make
    for make in (
        packed_in_if,
        packed_on_last_axis,
        separate_layers,
        flat_vectors,
        unlike_ranks,
        batch_last,
        batch_last_inside,
        fixed_batch,
        several_inputs,
        half_precision,
        whole_numbers,
        untold_shapes,
        extra_outputs,
        answer_is_state,
        not_exact,
        bidirectional,
    )
}
