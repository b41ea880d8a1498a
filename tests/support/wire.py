"""What generated messages say of themselves. The foreign clients run this file too, so it knows nobody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor

Names = dict[str, object]


def wire_numbers(files: Iterable[FileDescriptor]) -> dict[str, Names]:
    """By the full name of a message, an enum or a service: its parts by name, as they are on the wire."""
    told: dict[str, Names] = {}
    for file in files:
        for message in file.message_types_by_name.values():
            told |= dict(_messages(message))
        for enum in file.enum_types_by_name.values():
            told[enum.full_name] = {v.name: v.number for v in enum.values}
        for service in file.services_by_name.values():
            told[service.full_name] = {
                m.name: [m.input_type.full_name, m.output_type.full_name] for m in service.methods
            }
    return told


def _messages(message: Descriptor) -> Iterator[tuple[str, Names]]:
    yield message.full_name, {f.name: _field(f) for f in message.fields}
    for nested in message.nested_types:
        yield from _messages(nested)
    for enum in message.enum_types:
        yield enum.full_name, {v.name: v.number for v in enum.values}


def _field(field: FieldDescriptor) -> list[object]:
    kind = field.message_type or field.enum_type
    return [field.number, field.type, kind.full_name if kind else None, field.is_repeated]
