"""Protobuf, without generated code: by a registry's schema, or by a `.proto` file.

A message is an object under the names of its fields as the file has them. 64-bit numbers stay numbers; enums are the
names of their values, or numbers that have no name; bytes are base64; the keys of maps are strings. Presence is the
file's: a field that tells whether it was set (a message, `optional`, the members of a `oneof`) is left out where it was
not, so that it is null to expressions and no default is taken for what someone wrote; any other field has its default.
Timestamp, Duration, FieldMask, Struct, Value, ListValue and the wrappers have the form that Protobuf's JSON gives them;
Any is its `@type` with its bytes in `value`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from embedstream.decode.messages import Converters
from embedstream.decode.protoc import ROOT, files_of_path, files_of_schema, is_text
from embedstream.decode.schema import Unreadable, Unusable
from embedstream.errors import ConfigError, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

    from embedstream.decode.message import Read
    from embedstream.decode.protoc import Files
    from embedstream.decode.schema import Decoder, Schema
    from embedstream.decode.spec import ProtobufFile


_MOST_INDEXES = 100
_VARINT_BITS = 64
_FIRST = (0,)


@lru_cache(maxsize=1024)
def compile_protobuf(schema: Schema) -> Decoder:
    """Compiled once for a process; raises Unusable."""
    files = files_of_schema(schema)
    return _Framed(_pool(files), files[ROOT], by_text=is_text(schema)).decode


def compile_file(format: ProtobufFile, directory: Path) -> Callable[[bytes], object]:
    """Raises ConfigError."""
    path = (directory / format.protobuf).resolve()
    if not path.is_file():
        raise ConfigError(f"format: there is no file {path}")
    try:
        files, _ = files_of_path(path, directory.resolve())
        return _reader(_pool(files).FindMessageTypeByName(format.message))
    except Unusable as exc:
        raise ConfigError(f"format: {path} {exc}") from exc
    except KeyError:
        raise ConfigError(f"format: {path} has no message {format.message}, package included") from None


def _pool(files: Files) -> DescriptorPool:
    """In the order that it wants: what is imported before what imports it."""
    pool, added = DescriptorPool(), set[str]()

    def add(name: str) -> None:
        if name in added:
            return
        added.add(name)
        for imported in files[name].dependency:
            add(imported)
        pool.Add(files[name])

    try:
        for name in files:
            add(name)
    except (TypeError, KeyError, RecursionError) as exc:
        raise Unusable(f"has descriptors that do not fit together ({type(exc).__name__})") from exc
    return pool


def _reader(descriptor: Descriptor) -> Callable[[bytes], object]:
    convert = Converters().of(descriptor)
    parse: Callable[[bytes], Any] = GetMessageClass(descriptor).FromString
    return lambda data: convert(parse(data))


class _Framed:
    """Reads what names its message by indexes, those of the messages as the schema declares them."""

    def __init__(self, pool: DescriptorPool, file: FileDescriptorProto, *, by_text: bool) -> None:
        self._pool = pool
        self._file = file
        self._by_text = by_text
        self._readers: dict[tuple[int, ...], Callable[[bytes], object]] = {}

    def decode(self, data: bytes, start: int) -> object:
        indexes, start = _read_indexes(data, start)
        read = self._readers.get(indexes)
        if read is None:
            read = self._readers[indexes] = _reader(self._pool.FindMessageTypeByName(self._name(indexes)))
        return read(data[start:])

    def _name(self, indexes: tuple[int, ...]) -> str:
        names = [self._file.package] if self._file.package else []
        messages: Sequence[DescriptorProto] = self._file.message_type
        for index in indexes:
            declared = self._declared(messages)
            if not 0 <= index < len(declared):
                raise Unreadable(f"names message {index} where its schema declares {len(declared)}")
            names.append(declared[index].name)
            messages = declared[index].nested_type
        return ".".join(names)

    def _declared(self, messages: Sequence[DescriptorProto]) -> list[DescriptorProto]:
        """Without those that protoc makes of maps: who registers text counts what stands in it, who registers
        descriptors what stands in them.
        """
        return [message for message in messages if not (self._by_text and message.options.map_entry)]


def _read_indexes(data: bytes, start: int) -> tuple[tuple[int, ...], int]:
    if data[start : start + 1] == b"\0":
        return _FIRST, start + 1
    count, start = _read_varint(data, start)
    if not 0 < count <= _MOST_INDEXES:
        raise Unreadable(f"begins with {count} message indexes")
    indexes = []
    for _ in range(count):
        index, start = _read_varint(data, start)
        indexes.append(index)
    return tuple(indexes), start


def _read_varint(data: bytes, start: int) -> tuple[int, int]:
    """A zigzag varint, and where it ends."""
    number = 0
    for shift in range(0, _VARINT_BITS, 7):
        if start >= len(data):
            raise Unreadable("ends within its message indexes")
        byte = data[start]
        start += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follow
            return (number >> 1) ^ -(number & 1), start
    raise Unreadable("has a message index of more than 64 bits")


def reading_file(format: ProtobufFile, part: str, directory: Path) -> Read:
    """What reads a key or a value that is unframed; raises ConfigError."""
    parse = compile_file(format, directory)

    def read(data: bytes) -> object:
        try:
            return parse(data)
        except Exception as exc:
            reason = f"the {part} is no Protobuf message {format.message} ({type(exc).__name__})"
            raise Rejected("decode", "bad_protobuf", reason) from exc

    return read
