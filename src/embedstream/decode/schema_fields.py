"""Which fields a registry's schema gives to a record."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from embedstream.decode.avro import parsed_avro
from embedstream.decode.protoc import ROOT, files_of_schema
from embedstream.decode.schema import Unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from google.protobuf.descriptor_pb2 import DescriptorProto

    from embedstream.decode.schema import Schema

    Fields: TypeAlias = dict[str, Any] | None
    """What is in each field by its name; None where there may be any."""

_MOST_REFERENCES = 100
_ANY_NAMES = {"google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.Any"}


def field_names(schema: Schema, inside: str | None = None) -> frozenset[str] | None:
    """The names of a record's fields, or of those of what stands in its field `inside`; None where any may be there.

    A schema that leaves open which of several a record is has the fields of all. Raises Unusable, RetryLater.
    """
    root, fields_of = _opened(schema)
    fields = fields_of(root)
    if inside is not None:
        if fields is None or inside not in fields:
            return None
        fields = fields_of(fields[inside])
    return None if fields is None else frozenset(fields)


def _opened(schema: Schema) -> tuple[Any, Callable[[Any], Fields]]:
    match schema.type:
        case "AVRO":
            parsed, named = parsed_avro(schema)
            return parsed, lambda node: _avro_fields(node, named)
        case "PROTOBUF":
            return _protobuf(schema)
        case "JSON":
            try:
                document = json.loads(schema.text)
            except (ValueError, RecursionError) as exc:
                raise Unusable(f"is no JSON ({type(exc).__name__})") from exc
            return document, lambda node: _json_fields(node, document)
    raise Unusable("is of a type that is neither AVRO, PROTOBUF nor JSON")


def _merged(each: Iterable[Fields]) -> Fields:
    merged: dict[str, Any] = {}
    for fields in each:
        if fields is None:
            return None
        merged |= fields
    return merged


def _avro_fields(node: Any, named: dict[str, Any]) -> Fields:  # noqa: ANN401 - as fastavro has it
    node = named.get(node, node) if isinstance(node, str) else node
    if isinstance(node, list):
        return _merged(_avro_fields(each, named) for each in node)
    if not isinstance(node, dict):
        return {}
    if node["type"] == "map":
        return None
    return {field["name"]: field["type"] for field in node.get("fields", ())}


def _json_fields(node: Any, document: Any, depth: int = 0) -> Fields:  # noqa: ANN401 - any JSON
    """`allOf`, patterns and references to elsewhere leave it open, as does an object without properties."""
    if not isinstance(node, dict) or depth > _MOST_REFERENCES:
        return None
    if "$ref" in node:
        return _json_fields(_referred(node["$ref"], document), document, depth + 1)
    if "allOf" in node or "patternProperties" in node:
        return None
    if isinstance(alternatives := node.get("oneOf", node.get("anyOf")), list):
        return _merged(_json_fields(each, document, depth + 1) for each in alternatives)
    properties = node.get("properties")
    if isinstance(properties, dict):
        return properties
    types = node["type"] if isinstance(node.get("type"), list) else [node.get("type")]
    return None if {None, "object"} & set(types) else {}


def _referred(reference: object, document: Any) -> Any:  # noqa: ANN401 - as above
    """What a JSON pointer within the document leads to, else None."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    node = document
    for part in filter(None, reference[1:].split("/")):
        name = part.replace("~1", "/").replace("~0", "~")
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _protobuf(schema: Schema) -> tuple[Any, Callable[[Any], Fields]]:
    files = files_of_schema(schema)
    messages = {
        name: message for file in files.values() for name, message in _messages(file.package, file.message_type)
    }

    def fields_of(node: Any) -> Fields:  # noqa: ANN401 - the root's messages, or a field
        if isinstance(node, FieldDescriptorProto):
            name = node.type_name.removeprefix(".")
            found = messages.get(name)
            is_open = name in _ANY_NAMES or (found is not None and found.options.map_entry)
            node = [found] if found is not None and node.label != node.LABEL_REPEATED else []
            if is_open:
                return None
        return {field.name: field for message in node for field in message.field}

    return files[ROOT].message_type, fields_of


def _messages(package: str, declared: Iterable[DescriptorProto]) -> Iterator[tuple[str, DescriptorProto]]:
    for message in declared:
        name = f"{package}.{message.name}" if package else message.name
        yield name, message
        yield from _messages(name, message.nested_type)
