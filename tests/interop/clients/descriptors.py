"""What tritonclient's generated messages say of themselves."""

from __future__ import annotations

import sys
from pathlib import Path

from scenario import main
from tritonclient.grpc import model_config_pb2, service_pb2

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from support.wire import wire_numbers


def numbers(address: str) -> dict[str, dict[str, object]]:
    """As `wire_numbers` tells it; nobody is asked."""
    return wire_numbers([service_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR])


if __name__ == "__main__":
    main(globals())
