"""What a pipeline's file says of its records, compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from embedstream.decode import envelopes
from embedstream.decode.expressions import Compiled, ExpressionError
from embedstream.decode.mapping import Compiler, is_met

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from embedstream.decode.message import VersionBy
    from embedstream.decode.opened import Envelope
    from embedstream.decode.spec import Decoding

    Scope: TypeAlias = Mapping[str, Any]

_CHANGES = {"debezium", "unwrap", "maxwell", "canal"}
_ORDERS: Mapping[str, VersionBy] = {"time": "time", "record": "record"}
_WITH_PLACEHOLDER = {"debezium", "unwrap"}
ROW_ROOTS = frozenset(("value", "item"))
KEY_ROOTS = frozenset(("key", "headers", "record"))
"""What a record without a value has."""
EVENT_ROOTS = KEY_ROOTS | {"event"}


class Plan(NamedTuple):
    """Functions of the scope; None where the file says nothing, so that the envelope or the default shape does."""

    decoding: Decoding
    envelope: Envelope
    compiler: Compiler
    each: Compiled | None
    where: Compiled | None
    delete: Compiled | None
    id_parts: tuple[Compiled, ...]
    text: Callable[[Scope], str | None] | None
    timestamp: Callable[[Scope], datetime | None] | None
    version: Callable[[Scope], int] | None
    version_by: VersionBy | None
    source: Callable[[Scope], str | None] | None
    prefix: Callable[[Scope], str | None] | None
    metadata: Callable[[Scope], dict[str, Any]] | None

    @property
    def roots(self) -> frozenset[str]:
        return frozenset[str]().union(*(compiled.roots for compiled in self.compiler.compiled))

    @property
    def headers(self) -> frozenset[str]:
        """The names of the headers that the envelope and the expressions read."""
        names = self.envelope.headers.union(*(compiled.headers for compiled in self.compiler.compiled))
        if self.decoding.envelope != "cloudevents":
            return names
        fields = frozenset[tuple[str, str]]().union(*(compiled.fields for compiled in self.compiler.compiled))
        return names | {f"ce_{name}" for root, name in fields if root == "event"}

    @property
    def reads_key(self) -> bool:
        """Whether the key is read even where there is a value."""
        by_default = self.envelope.reads_key or (
            self.decoding.envelope == "none" and self.decoding.each is None and self.decoding.formats.key != "text"
        )
        return "key" in self.roots or (by_default and not self.id_parts)

    def where_without(self, roots: frozenset[str]) -> list[Callable[[Scope], bool]]:
        """What of `where` can be asked without these: of parts that all must hold, those that read none of them."""
        if self.where is None:
            return []
        if not self.where.roots & roots:
            return [self.compiler.condition(self.where, "where")]
        return [is_met(part) for part in self.where.conjuncts if not part.roots & roots]


def plan(decoding: Decoding) -> Plan:
    """Raises ExpressionError, with the path of the field, for what cannot mean anything."""
    envelope = decoding.envelope
    placeholder = decoding.placeholder if envelope in _WITH_PLACEHOLDER else None
    compiler = Compiler(item=decoding.each is not None, placeholder=placeholder)
    each = decoding.each and compiler.expression(decoding.each, "each", item=False)
    if envelope != "none" and decoding.text is None:
        raise ExpressionError(
            f"text is missing: with `envelope: {envelope}` nothing else says what the text is", path=("text",)
        )
    if envelope != "none" and each and decoding.id is None:
        raise ExpressionError("id is missing: with `each` nothing else says what the id of an item is", path=("id",))
    version_by = _version_by(decoding)
    prefix = decoding.chunks.prefix if decoding.chunks else None
    return Plan(
        decoding,
        envelopes.envelope(envelope, explode=each is None),
        compiler,
        each or None,
        compiler.expression(decoding.where, "where") if decoding.where else None,
        compiler.expression(decoding.delete, "delete") if decoding.delete else None,
        compiler.list_of(decoding.id, "id") if decoding.id else (),
        compiler.text(decoding.text) if decoding.text else None,
        compiler.timestamp(decoding.timestamp) if decoding.timestamp else None,
        compiler.version(decoding.version) if decoding.version and version_by != decoding.version else None,
        version_by,
        compiler.string(decoding.source, "source") if decoding.source else None,
        compiler.string(prefix, "chunks", "prefix") if prefix else None,
        compiler.metadata(decoding.metadata) if decoding.metadata is not None else None,
    )


def ids_need_value(decoding: Decoding) -> list[str]:
    """The expressions of the id that a record without a value leaves open, so that its delete cannot be taken.

    A row's fields by their names are no such: Debezium's key holds those of the primary key.
    """
    compiled = plan(decoding)
    return [part.text for part in compiled.id_parts if not (part.roots <= KEY_ROOTS or key_field(part, decoding))]


def key_field(part: Compiled, decoding: Decoding) -> str | None:
    """The name of a field of the row that the key may hold too, where that is all that the expression reads."""
    is_of_row = decoding.envelope in _WITH_PLACEHOLDER and part.path is not None and part.path[0] == "value"
    return part.path[1] if is_of_row and part.path and len(part.path) > 1 else None


def _version_by(decoding: Decoding) -> VersionBy | None:
    if decoding.version is None:
        return "record" if decoding.envelope in _CHANGES else None
    return _ORDERS.get(decoding.version)
