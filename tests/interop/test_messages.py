"""The messages of the Open Inference door against those that tritonclient was made with."""

from __future__ import annotations

from support.foreign import call
from support.wire import wire_numbers
from tidegate.oip import open_inference_pb2


def test_every_name_of_ours_has_the_number_and_the_type_that_triton_gives_it() -> None:
    theirs = call("descriptors", "numbers", "")

    ours = wire_numbers([open_inference_pb2.DESCRIPTOR])

    wrong = {
        f"{owner}.{name}": (number, theirs.get(owner, {}).get(name))
        for owner, names in ours.items()
        for name, number in names.items()
        if theirs.get(owner, {}).get(name) != number
    }
    assert wrong == {}
    assert "inference.ModelInferRequest" in ours
