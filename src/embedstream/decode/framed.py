"""Records that name their schema in a registry, as Confluent's serializers write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NoReturn, TypeAlias
from uuid import UUID

from embedstream.decode import forms
from embedstream.decode.avro import compile_avro
from embedstream.decode.fields import reject
from embedstream.decode.protobuf import compile_protobuf
from embedstream.decode.schema import Unreadable, Unusable
from embedstream.errors import Rejected, RetryLater

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstream.decode.registry import Registry
    from embedstream.decode.schema import Decoder, Schema
    from embedstream.decode.unknown import SchemaId

Part: TypeAlias = Literal["key", "value"]
_FRAMING_BYTES = 5
_GUID_BYTES = 17


class Framed:
    """Reads a key or a value by the schema whose id stands in front of it: byte 0, four bytes of id.

    Or by one whose id stands in the record's header `header`, where the caller passes that: byte 1, sixteen bytes of
    GUID.
    """

    def __init__(self, part: Part, registry: Registry, read_json: Callable[[bytes], object]) -> None:
        self.header = f"__{part}_schema_id"
        self._part = part
        self._registry = registry
        self._read_json = read_json
        self._decoders: dict[SchemaId, Decoder | Rejected] = {}

    def __call__(self, data: bytes, identified: bytes | None = None) -> object:
        """Plain values; raises RegistryUnavailable, Rejected."""
        if identified is not None:
            return self._read_identified(data, identified)
        if data[:1] != b"\0" or len(data) < _FRAMING_BYTES:
            self._reject_unframed(data)
        id = int.from_bytes(data[1:_FRAMING_BYTES])
        if not id:
            self._reject_unframed(data)
        return self._read(data, _FRAMING_BYTES, id)

    def _read_identified(self, data: bytes, identified: bytes) -> object:
        if identified[:1] == b"\0" and len(identified) == _FRAMING_BYTES:
            return self._read(data, 0, int.from_bytes(identified[1:]))
        if identified[:1] != b"\1" or len(identified) < _GUID_BYTES:
            reject("not_framed", f"the header {self.header} is not the id of a schema: byte 1 and a GUID of 16 bytes")
        id = UUID(bytes=identified[1:_GUID_BYTES])
        indexes = identified[_GUID_BYTES:]  # of a Protobuf message
        return self._read(indexes + data, 0, id)

    def _read(self, data: bytes, start: int, id: SchemaId) -> object:
        decode = self._decoders.get(id) or self._compiled(id)
        if isinstance(decode, Rejected):
            reject(decode.code, decode.reason)
        try:
            return decode(data, start)
        except (Rejected, RetryLater):
            raise
        except Exception as exc:
            raise self._unreadable(exc, id) from exc

    def _compiled(self, id: SchemaId) -> Decoder | Rejected:
        """What cannot be used is kept as well: to find out costs a process each time."""
        try:
            decoder = self._decoders[id] = self._compile(self._registry.schema(id))
        except Unusable as exc:
            reason = f"the {self._part} has schema {id} of the registry, which {exc}"
            refused = self._decoders[id] = Rejected("decode", "schema_unusable", reason)
            return refused
        return decoder

    def _compile(self, schema: Schema) -> Decoder:
        match schema.type:
            case "AVRO":
                return compile_avro(schema)
            case "PROTOBUF":
                return compile_protobuf(schema)
            case "JSON":
                return lambda data, start: self._read_json(data[start:])
        raise Unusable("is of a type that is neither AVRO, PROTOBUF nor JSON")

    def _unreadable(self, exc: Exception, id: SchemaId) -> Rejected:
        schema = self._registry.schema(id)
        what = str(exc) if isinstance(exc, Unreadable) else f"cannot be read ({type(exc).__name__})"
        name = {"AVRO": "Avro", "PROTOBUF": "Protobuf"}[schema.type]
        reason = f"the {self._part}, {name} by schema {id} of the registry, {what}: was it written by another schema?"
        return Rejected("decode", f"bad_{schema.type.lower()}", reason)

    def _reject_unframed(self, data: bytes) -> NoReturn:
        form = forms.of_unframed(data)
        reason = f"the {self._part} does not begin with a schema registry's framing (byte 0, four bytes of schema id)"
        found = f": it looks like {form}" if form else f", and no schema id was taken from a header {self.header}"
        reject("not_framed", reason + found)
