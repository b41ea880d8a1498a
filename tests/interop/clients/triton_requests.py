"""Requests as plain values, made into tritonclient's, and its results made into plain values again."""

from __future__ import annotations

from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

Plain = dict[str, Any]


def arguments(request: Plain) -> Plain:
    """The arguments of tritonclient's infer functions.

    Args:
        request: What a test gives: `model`, `x` as nested lists, and by tritonclient's own names whatever else it
            says; `typed` for elements as numbers in the message, `shared_memory` for a region that is said to
            hold them, `outputs` as names and `class_count` for all of those.
    """
    given = dict(request)
    x = np.array(given.pop("x"), np.float32)
    tensor = triton.InferInput("x", list(x.shape), "FP32")
    if "shared_memory" in given:
        tensor.set_shared_memory(given.pop("shared_memory"), x.nbytes)
    elif given.pop("typed", False):
        tensor._get_tensor().contents.fp32_contents.extend(x.ravel())
    else:
        tensor.set_data_from_numpy(x)
    if "outputs" in given:
        class_count = given.pop("class_count", 0)
        given["outputs"] = [triton.InferRequestedOutput(name, class_count) for name in given["outputs"]]
    return {"model_name": given.pop("model"), "inputs": [tensor], **given}


def plain(result: triton.InferResult | None, error: InferenceServerException | None) -> Plain:
    """What a callback was told.

    Returns:
        `error` and `status`; or `outputs` (names), `shape` and elements of `y`, `id`, and the parameters by name.
    """
    if error is not None:
        return {"error": error.message(), "status": error.status()}
    assert result is not None
    response = result.get_response()
    y = result.as_numpy("y")
    parameters = {name: _value(value) for name, value in response.parameters.items()}
    told = {"outputs": [o.name for o in response.outputs], "id": response.id}
    return {**told, "y": y.ravel().tolist(), "shape": list(y.shape), **parameters}


def _value(parameter: Any) -> object:
    return getattr(parameter, parameter.WhichOneof("parameter_choice"))
