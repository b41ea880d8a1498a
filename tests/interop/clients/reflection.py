"""The public reflection client: it knows no message in advance."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from scenario import main


def services(address: str) -> list[str]:
    """The services that the server says it has."""
    with grpc.insecure_channel(address) as channel:
        return sorted(ProtoReflectionDescriptorDatabase(channel).get_services())


def methods(address: str, service: str) -> dict[str, list[str]]:
    """Per method of a service, the full names of its request and its response."""
    with grpc.insecure_channel(address) as channel:
        found = DescriptorPool(ProtoReflectionDescriptorDatabase(channel)).FindServiceByName(service)
        return {m.name: [m.input_type.full_name, m.output_type.full_name] for m in found.methods}


def invoke(address: str, service: str, method: str, request: dict[str, Any]) -> Any:
    """Call a method with messages made from what reflection says."""
    with grpc.insecure_channel(address) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        found = pool.FindServiceByName(service).FindMethodByName(method)
        message = json_format.ParseDict(request, message_factory.GetMessageClass(found.input_type)())
        invoked = channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(found.output_type).FromString,
        )
        return json_format.MessageToDict(invoked(message))


if __name__ == "__main__":
    main(globals())
