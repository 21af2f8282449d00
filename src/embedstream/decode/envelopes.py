"""The envelopes of change events, opened: Debezium's, Connect's, and those in files of their own.

Debezium's shapes are those of its connectors 3.6 (https://debezium.io/documentation/reference/3.6/).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from embedstream.decode import binlog, cloudevents, connect
from embedstream.decode.fields import EPOCH, reject
from embedstream.decode.opened import Envelope, Headers, Opened, opened_key, parts_of_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from embedstream.decode.spec import EnvelopeName

_MOST_MICROSECONDS = 253_402_300_799_999_999  # in the year 9999
_WITH_ROW = {"c", "u", "r"}
_TRUNCATED = (
    "the whole table was truncated, which no single delete can follow: empty the table here too, or have the connector "
    "skip it (skipped.operations=t)"
)


def envelope(name: EnvelopeName, *, explode: bool = True) -> Envelope:
    """`explode` says whether the rows of one message become a message each (`canal`)."""
    if name == "canal" and not explode:
        return ENVELOPES["canal"]._replace(open=binlog.open_canal_whole)
    return ENVELOPES[name]


def _open_none(value: Any, _key: Any, _headers: Headers) -> Sequence[Opened]:  # noqa: ANN401 - any JSON
    return (Opened(value),)


def _open_connect(value: Any, key: Any, _headers: Headers) -> Sequence[Opened]:  # noqa: ANN401
    if not connect.is_wrapped(value):
        reject("envelope", "the value is not Connect's object of schema and payload: use `envelope: none` for it")
    payload = connect.unwrapped(value)
    return (Opened(payload, id=parts_of_key(key), is_delete=payload is None),)


def _open_debezium(value: Any, key: Any, _headers: Headers) -> Sequence[Opened]:  # noqa: ANN401
    change = connect.unwrapped(value)
    if change is None:
        return (Opened(None, id=parts_of_key(key), is_delete=True),)
    op = change.get("op") if isinstance(change, dict) else None
    if not isinstance(op, str):
        return _without_op(change)
    time, before = _time(change.get("source")), change.get("before")
    if op in _WITH_ROW:
        row = change.get("after")
        if row is None:
            reject("envelope", f"the change (op={op}) has no after: have the connector send whole rows or documents")
        return (Opened(row, change, parts_of_key(key), time=time, before=before if op == "u" else None),)
    if op == "d":
        return (Opened(before, change, parts_of_key(key), is_delete=True, time=time),)
    return _other_op(op)


def _without_op(change: object) -> Sequence[Opened]:
    if not isinstance(change, dict):
        reject("envelope", "the value is not an object, and so no change event of Debezium")
    if change.keys() <= {"ts_ms", "ts_us", "ts_ns"} and change:  # a heartbeat
        return ()
    is_transaction = change.get("status") in ("BEGIN", "END") and "id" in change
    is_schema_change = "ddl" in change and "databaseName" in change
    if is_transaction or is_schema_change:
        return ()
    return reject(
        "envelope", "the value is no change event of Debezium (no op): for rows alone, use `envelope: unwrap`"
    )


def _other_op(op: object) -> Sequence[Opened]:
    if op == "m":  # a message of pg_logical_emit_message
        return ()
    if op == "t":
        reject("truncate", _TRUNCATED)
    return reject("envelope", "the change's op is none of c, r, u, d, t and m")


def _open_unwrap(value: Any, key: Any, _headers: Headers) -> Sequence[Opened]:  # noqa: ANN401
    row = connect.unwrapped(value)
    if row is None:
        return (Opened(None, id=parts_of_key(key), is_delete=True),)
    if not isinstance(row, dict):
        reject("envelope", "the value is not an object, and so no row")
    if "op" in row and "source" in row and ("after" in row or "before" in row):
        reject("envelope", "the value is a whole change event, not a row: use `envelope: debezium` for it")
    event = {name[2:]: said for name, said in row.items() if name.startswith("__")}
    if event.get("op") == "t":
        reject("truncate", _TRUNCATED)
    deleted = event.get("deleted")
    is_delete = deleted is True or deleted == "true" or event.get("op") == "d"
    return (Opened(row, event, parts_of_key(key), is_delete=is_delete, time=_time(event, "source_")),)


def _time(said: object, prefix: str = "") -> Any:  # noqa: ANN401 - any JSON
    """When the change was made, as finely as it is said."""
    if not isinstance(said, dict):
        return None
    microseconds = said.get(f"{prefix}ts_us")
    if type(microseconds) is int and 0 < microseconds <= _MOST_MICROSECONDS:
        return EPOCH + timedelta(microseconds=microseconds)
    return said.get(f"{prefix}ts_ms") or None


ENVELOPES: Mapping[EnvelopeName, Envelope] = {
    "none": Envelope(_open_none, lambda key: key, lambda _key, _headers: None, reads_key=False),
    "connect": Envelope(_open_connect, opened_key, parts_of_key),
    "debezium": Envelope(_open_debezium, opened_key, parts_of_key),
    "unwrap": Envelope(_open_unwrap, opened_key, parts_of_key),
    "maxwell": Envelope(binlog.open_maxwell, opened_key, binlog.maxwell_key_id),
    "canal": Envelope(binlog.open_canal, opened_key, parts_of_key, reads_key=False),
    "cloudevents": Envelope(
        cloudevents.open_event, opened_key, cloudevents.key_id, headers=frozenset(cloudevents.HEADERS)
    ),
}
