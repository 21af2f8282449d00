"""From Protobuf messages to plain values: see `protobuf`."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto

from embedstream.decode.plain import MICROS, MILLIS, NANOS, base64_text, float32, timestamp_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import Descriptor

    Convert: TypeAlias = Callable[[Any], object]

_WRAPPERS = ("Double", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String")


class Converters:
    """Makes what converts the messages of a type, once for each."""

    def __init__(self) -> None:
        self._by_name: dict[str, Convert] = dict(_WELL_KNOWN)

    def of(self, descriptor: Descriptor) -> Convert:
        name = descriptor.full_name
        if name not in self._by_name:
            self._by_name[name] = self._later(name)
            self._by_name[name] = self._of_fields(descriptor)
        return self._by_name[name]

    def _later(self, name: str) -> Convert:
        """For the types that hold themselves."""

        def convert(message: object) -> object:
            return self._by_name[name](message)

        return convert

    def _of_fields(self, descriptor: Descriptor) -> Convert:
        """Those that are taken as they are come in one call."""
        repeated = _repeated(descriptor)
        taken: list[str] = []
        always: list[tuple[str, Convert]] = []
        present: list[tuple[str, Convert]] = []
        for field in descriptor.fields:
            convert = self._of_many(field) if field.number in repeated else self._of_value(field)
            if field.has_presence:
                present.append((field.name, convert or _same))
            elif convert is None:
                taken.append(field.name)
            else:
                always.append((field.name, convert))
        return _object(taken, always, present)

    def _of_many(self, field: FieldDescriptor) -> Convert:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return _mapping(self._of_value(field.message_type.fields_by_name["value"]))
        convert = self._of_value(field)
        return _list(convert) if convert else list

    def _of_value(self, field: FieldDescriptor) -> Convert | None:
        """None where it is plain already."""
        if field.message_type is not None:
            return self.of(field.message_type)
        if field.enum_type is not None:
            return _enum({value.number: value.name for value in field.enum_type.values})
        return _OF_TYPE.get(field.type)


def _repeated(descriptor: Descriptor) -> set[int]:
    """By the descriptor as a message: what the library offers for it depends on its version."""
    proto = DescriptorProto()
    copy_to: Callable[[DescriptorProto], None] = descriptor.CopyToProto
    copy_to(proto)
    return {field.number for field in proto.field if field.label == FieldDescriptorProto.LABEL_REPEATED}


def _object(taken: list[str], always: list[tuple[str, Convert]], present: list[tuple[str, Convert]]) -> Convert:
    get = _getter(taken)

    def convert(message: Any) -> dict[str, object]:  # noqa: ANN401 - of a class made at run time
        values = dict(zip(taken, get(message), strict=True))
        for name, make in always:
            values[name] = make(getattr(message, name))
        has = message.HasField
        for name, make in present:
            if has(name):
                values[name] = make(getattr(message, name))
        return values

    return convert


def _getter(names: list[str]) -> Callable[[Any], tuple[object, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda message: tuple(getattr(message, name) for name in names)  # of one name attrgetter gives no tuple


def _list(convert: Convert) -> Convert:
    return lambda values: [convert(value) for value in values]


def _mapping(convert: Convert | None) -> Convert:
    if convert is None:
        return lambda values: {_key_text(key): value for key, value in values.items()}
    return lambda values: {_key_text(key): convert(value) for key, value in values.items()}


def _key_text(key: str | int) -> str:
    if isinstance(key, str):
        return key
    return str(key).lower() if isinstance(key, bool) else str(key)


def _enum(names: dict[int, str]) -> Convert:
    return lambda number: names.get(number, number)


def _same(value: object) -> object:
    return value


def _timestamp(message: Any) -> object:  # noqa: ANN401 - of a class made at run time
    """In seconds where it is outside of the years 1 to 9999."""
    unit = _unit(message.nanos)
    text = timestamp_text(message.seconds * unit + message.nanos // (NANOS // unit), unit)
    return text if isinstance(text, str) else message.seconds


def _duration(message: Any) -> str:  # noqa: ANN401 - as above
    nanoseconds = message.seconds * NANOS + message.nanos
    seconds, rest = divmod(abs(nanoseconds), NANOS)
    unit = _unit(rest)
    fraction = f".{rest * unit // NANOS:0{len(str(unit)) - 1}}" if rest else ""
    return f"{'-' if nanoseconds < 0 else ''}{seconds}{fraction}s"


def _unit(nanoseconds: int) -> int:
    """The largest in which they are a whole number."""
    return next(unit for unit in (MILLIS, MICROS, NANOS) if nanoseconds * unit % NANOS == 0)


def _value(message: Any) -> object:  # noqa: ANN401 - as above
    kind = message.WhichOneof("kind")
    value: Any = getattr(message, kind) if kind else None
    match kind:
        case "struct_value":
            return _struct(value)
        case "list_value":
            return _values(value)
        case "number_value":
            return int(value) if value.is_integer() else value
        case "null_value":
            return None
    return value


def _struct(message: Any) -> dict[str, object]:  # noqa: ANN401 - as above
    return {name: _value(value) for name, value in message.fields.items()}


def _values(message: Any) -> list[object]:  # noqa: ANN401 - as above
    return [_value(value) for value in message.values]


def _any(message: Any) -> dict[str, str]:  # noqa: ANN401 - as above
    return {"@type": message.type_url, "value": base64_text(message.value)}


_OF_TYPE: dict[int, Convert] = {FieldDescriptor.TYPE_BYTES: base64_text, FieldDescriptor.TYPE_FLOAT: float32}
_WELL_KNOWN: dict[str, Convert] = {
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Duration": _duration,
    "google.protobuf.FieldMask": lambda message: ",".join(message.paths),
    "google.protobuf.Struct": _struct,
    "google.protobuf.Value": _value,
    "google.protobuf.ListValue": _values,
    "google.protobuf.Any": _any,
    "google.protobuf.FloatValue": lambda message: float32(message.value),
    "google.protobuf.BytesValue": lambda message: base64_text(message.value),
    **{f"google.protobuf.{name}Value": attrgetter("value") for name in _WRAPPERS},
}
