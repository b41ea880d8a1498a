"""The answer to a request: outputs as raw bytes, and for a sequence where it stands.

A message that is put into another is copied, so an answer is written where it stands.
"""

from __future__ import annotations

from collections.abc import Sequence

from tidegate.errors import InvalidRequest, TidegateError
from tidegate.oip import open_inference_pb2 as pb
from tidegate.rpc.open_inference.layouts import AnswerForm, ModelLayout
from tidegate.rpc.open_inference.parameters import refuse_unserved
from tidegate.rpc.status import error_text
from tidegate.tensor import Array

MAX_ECHO_CHARS = 256
"""As much of what a refused request is called goes back; no id, name or version that is served is longer."""


def read_selection(layout: ModelLayout, request: pb.ModelInferRequest) -> tuple[int, ...]:
    """Which outputs a request wants, by their position in the model.

    Raises:
        InvalidRequest: An output is unknown or named twice.
        Unsupported: It is wanted in shared memory, or as classes.
    """
    if not request.outputs:
        return layout.all_outputs
    chosen: list[int] = []
    for output in request.outputs:
        index = layout.output_index.get(output.name)
        if index is None or index in chosen:
            expected = ", ".join(repr(o.name) for o in layout.outputs)
            raise InvalidRequest(
                f"outputs: expected each of {expected} at most once, got {output.name[:100]!r}"
            )
        for name in output.parameters:
            refuse_unserved(f"outputs: {output.name!r} parameters", name)
        chosen.append(index)
    return tuple(chosen)


def fill_answer(
    response: pb.ModelInferResponse,
    layout: ModelLayout,
    outputs: Sequence[Array],
    chosen: tuple[int, ...],
    *,
    has_time: bool,
) -> int:
    """Write outputs into a response that has none.

    Args:
        response: Is filled.
        layout: Of the version that answered.
        outputs: One array per model output, `[B, T, step_shape...]`.
        chosen: Positions of those that are wanted, in the order in which they are.
        has_time: The shapes have the time axis; else T is 1.

    Returns:
        Bytes of the outputs.
    """
    form = AnswerForm(chosen, has_time, outputs[0].shape[:2])
    head = layout.known_answers.get(form)
    if head is None:
        head = _head(layout, outputs, form)
        layout.known_answers.remember(form, head)
    response.MergeFromString(head)
    num_bytes = 0
    for index in chosen:
        values = outputs[index]
        response.raw_output_contents.append(values.tobytes())
        num_bytes += values.nbytes
    return num_bytes


def _head(layout: ModelLayout, outputs: Sequence[Array], form: AnswerForm) -> bytes:
    """All of an answer but its elements: it is the same for every step of a sequence."""
    response = pb.ModelInferResponse(model_name=layout.manifest.name, model_version=layout.manifest.version)
    for index in form.chosen:
        spec, values = layout.outputs[index], outputs[index]
        shape = values.shape if form.has_time else (values.shape[0], *values.shape[2:])
        response.outputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
    return response.SerializeToString()


def fill_sequence(response: pb.ModelInferResponse, sequence_id: int | str, first_step: int) -> None:
    """Say which sequence, and which of its steps, an answer is of."""
    parameters = response.parameters
    parameters["step"].int64_param = first_step
    if isinstance(sequence_id, int):
        parameters["sequence_id"].int64_param = sequence_id
    else:
        parameters["sequence_id"].string_param = sequence_id


def fill_refusal(
    response: pb.ModelStreamInferResponse, request: pb.ModelInferRequest, error: TidegateError
) -> None:
    """Tell of a refused request on a stream, which stays open."""
    response.error_message = f"{error.code}: {error_text(error)}"
    answer = response.infer_response
    answer.id = request.id[:MAX_ECHO_CHARS]
    answer.model_name = request.model_name[:MAX_ECHO_CHARS]
    answer.model_version = request.model_version[:MAX_ECHO_CHARS]
    answer.parameters["error_code"].string_param = error.code
    answer.parameters["error_reason"].string_param = error.reason
    for name, value in error.facts.items():
        if isinstance(value, int):
            answer.parameters[name].int64_param = value
        else:
            answer.parameters[name].string_param = value
