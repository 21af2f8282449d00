"""Records by a plan: opened, filtered, divided into items, each a message or a delete."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from embedstream.decode import default, forms
from embedstream.decode.expressions import kind
from embedstream.decode.fields import (
    EPOCH,
    check_model,
    checked_source,
    checked_text,
    metadata_object,
    recorded_at,
    reject,
)
from embedstream.decode.ids import Ids
from embedstream.decode.message import Delete, Message, Version, content_hash
from embedstream.decode.moments import read_moment
from embedstream.decode.opened import Opened
from embedstream.decode.plan import ROW_ROOTS, plan
from embedstream.decode.storing import stored_metadata, stored_text
from embedstream.decode.timestamps import parse_timestamp
from embedstream.errors import Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from embedstream.decode.message import Item, Read, Record, Rules
    from embedstream.decode.spec import Decoding

    Scope: TypeAlias = dict[str, Any]
    Holds: TypeAlias = Callable[[Scope], bool]


@runtime_checkable
class _ByHeader(Protocol):
    """A reader that a header of the record tells how to read it."""

    header: str

    def __call__(self, data: bytes, identified: bytes | None) -> object: ...


class Mapped:
    """Decodes one record after the other; a call gives nothing where the record is filtered."""

    def __init__(self, decoding: Decoding, rules: Rules, read_key: Read, read_value: Read) -> None:
        self._plan = plan(decoding)
        self._each, self._said, self._number = self._plan.each, self._plan.timestamp, self._plan.version
        self._text, self._named, self._mapped_metadata = self._plan.text, self._plan.source, self._plan.metadata
        self._by_record = (self._plan.version_by or rules.version_by) == "record"
        self._rules = rules
        self._max_value_bytes = rules.max_value_bytes
        self._open = self._plan.envelope.open
        self._read_key = _with_header(read_key)
        self._read_value = _with_header(read_value)
        self._is_default_shape = decoding.envelope == "none"
        self._ids = Ids(self._plan)
        self._headers = self._plan.headers
        self._reads_key = self._plan.reads_key
        self._reads_record = "record" in self._plan.roots
        self._where = self._plan.where_without(frozenset())
        self._where_of_deletes = self._plan.where_without(ROW_ROOTS)
        self._where_of_tombstones = self._plan.where_without(ROW_ROOTS | {"event"})
        delete = self._plan.delete
        self._delete = delete and self._plan.compiler.condition(delete, "delete")

    def __call__(self, record: Record) -> Sequence[Item]:
        try:
            return self._decoded(record)
        except RecursionError:
            raise Rejected("decode", "mapping_failed", "the record nests too deep") from None

    def _decoded(self, record: Record) -> Sequence[Item]:
        scope: Scope = {"value": None, "key": None, "event": None}
        scope["headers"] = headers = _headers(record, self._headers) if self._headers else {}
        if self._reads_record:
            scope["record"] = {name: getattr(record, name) for name in ("topic", "partition", "offset", "timestamp")}
        if record.value is None:
            return self._deleted(record, scope, Opened(None))
        if len(record.value) > self._max_value_bytes:
            reject("record_too_large", f"the value has more than {self._max_value_bytes} bytes")
        key = scope["key"] = self._key(record) if self._reads_key else None
        opened = self._open(self._read_value(record.value, record), key, headers)
        if len(opened) == 1:
            return self._of_opened(record, scope, opened[0], 0)
        return _all(lambda index: self._of_opened(record, scope, opened[index], index), len(opened))

    def _key(self, record: Record) -> Any:  # noqa: ANN401 - any JSON
        return self._plan.envelope.key(self._read_key(record.key, record)) if record.key else None

    def _of_opened(self, record: Record, scope: Scope, opened: Opened, index: int) -> Sequence[Item]:
        if opened.is_delete and opened.value is None:
            return self._deleted(record, scope, opened)
        scope["value"] = opened.value
        scope["event"] = opened.event
        if self._each is None:
            return self._of_item(record, scope, opened, index, opened.value)
        items = self._each.get(scope)
        if not isinstance(items, list):
            reject("each_not_a_list", f"each: {self._each.text} gives {kind(items)}, not a list")
        return _all(lambda n: self._of_item(record, scope | {"item": items[n]}, opened, n, items[n]), len(items))

    def _deleted(self, record: Record, scope: Scope, opened: Opened) -> Sequence[Item]:
        """A change without a row deletes the id that its key gives."""
        scope = scope | {"key": self._key(record), "event": opened.event}
        conditions = self._where_of_tombstones if opened.event is None else self._where_of_deletes
        if not all(holds(scope) for holds in conditions):
            return ()
        id = self._ids.by_key(record, scope)
        return (Delete(id, self._version(record, scope, 0, read_moment(opened.time), recorded_at(record))),)

    def _of_item(self, record: Record, scope: Scope, opened: Opened, index: int, body: Any) -> Sequence[Item]:  # noqa: ANN401
        for holds in self._where_of_deletes if opened.is_delete else self._where:
            if not holds(scope):
                return ()
        recorded = recorded_at(record)
        said = read_moment(opened.time) if opened.is_delete else self._timestamp(scope, opened, body)
        ordered = self._version(record, scope, index, said, recorded)
        id = self._ids.of(record, scope, opened, index, body)
        if opened.is_delete or (self._delete and self._delete(scope)):
            return (Delete(id, ordered),)
        message = self._message(scope, body, id=id, ordered=ordered, said=said, recorded=recorded)
        if opened.before is None or (old := self._ids.before(scope, opened)) is None or old == id:
            return (message,)
        return (Delete(old, ordered._replace(item=-1 - index)), message)

    def _timestamp(self, scope: Scope, opened: Opened, body: Any) -> datetime | None:  # noqa: ANN401 - any JSON
        """What the message says of its time, or else its envelope."""
        if self._said:
            return self._said(scope) or read_moment(opened.time)
        if self._is_default_shape:
            return parse_timestamp(body.get("timestamp")) if isinstance(body, dict) else None
        return read_moment(opened.time)

    def _version(
        self, record: Record, scope: Scope, index: int, said: datetime | None, recorded: datetime | None
    ) -> Version:
        if self._number:
            moment = EPOCH + timedelta(microseconds=self._number(scope))
        elif self._by_record:
            moment = EPOCH
        else:
            moment = said or recorded or EPOCH
            if recorded is not None and moment > recorded:
                moment = recorded
        return Version(moment, record.topic, record.partition, record.offset, index)

    def _message(
        self,
        scope: Scope,
        body: Any,  # noqa: ANN401 - any JSON
        *,
        id: str,
        ordered: Version,
        said: datetime | None,
        recorded: datetime | None,
    ) -> Message:
        given = self._text(scope) if self._text else self._default_text(body)
        text = stored_text(given) if isinstance(given, str) else given
        if text is not None or not self._text:
            text = checked_text(text, self._rules.max_text_bytes)
        prefix = self._plan.prefix(scope) if self._plan.prefix else None
        prefix = stored_text(prefix).strip() if prefix else ""
        named = self._source(scope, body)
        source = None if named is None else stored_text(named)
        return Message(
            id,
            ordered,
            text,
            None if text is None else content_hash(text, prefix),
            said or recorded or EPOCH,
            source,
            stored_metadata(self._metadata(scope, body), sanitized=text is not given or source is not named),
            said is not None,
            prefix,
        )

    def _default_text(self, body: Any) -> Any:  # noqa: ANN401 - any JSON
        if isinstance(body, dict):
            check_model(body.get("model"), self._rules)
            text = body.get("text")
            return default.reject_without_text(body) if text is None else text
        if isinstance(body, str) and self._plan.decoding.formats.value == "text":
            return body
        return reject("not_an_object", f"the value is JSON, but {forms.of_other_json(body)}")

    def _source(self, scope: Scope, body: Any) -> str | None:  # noqa: ANN401 - any JSON
        if self._named:
            return self._named(scope)
        return checked_source(body.get("source")) if self._is_default_shape and isinstance(body, dict) else None

    def _metadata(self, scope: Scope, body: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
        if self._mapped_metadata:
            return self._mapped_metadata(scope)
        given = body.get("metadata") if self._is_default_shape and isinstance(body, dict) else None
        return metadata_object(given) or {}


def _with_header(read: Read) -> Callable[[bytes, Record], Any]:
    given: object = read
    if isinstance(given, _ByHeader):
        header, by_header = given.header, given
        return lambda data, record: by_header(data, record.headers.get(header))
    return lambda data, _: read(data)


def _all(of: Callable[[int], Sequence[Item]], count: int) -> list[Item]:
    """Of all or none: the first item that is rejected rejects the record."""
    found: list[Item] = []
    for index in range(count):
        try:
            found += of(index)
        except Rejected as exc:
            raise Rejected("decode", exc.code, f"item {index}: {exc.reason}") from None
    return found


def _headers(record: Record, names: Iterable[str]) -> Mapping[str, str | None]:
    found = {}
    for name in names:
        value = record.headers.get(name)
        try:
            found[name] = None if value is None else value.decode()
        except UnicodeDecodeError:
            reject("not_utf8", f"the header {name} is not UTF-8")
    return found
