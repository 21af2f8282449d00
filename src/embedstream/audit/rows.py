"""From records to lines of PostgreSQL's COPY in text form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream.kafka import headers_of
from embedstream.message import Delete, Record, Rules, decode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import Message

_ESCAPES = str.maketrans({"\0": "\N{REPLACEMENT CHARACTER}", "\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_NULL = "\\N"


def sent(messages: Iterable[Message], rules: Rules) -> str:
    """Lines for the table `sent`."""
    return "".join(_sent(record_of(message), rules) for message in messages)


def record_of(message: Message) -> Record:
    kind, timestamp = message.timestamp()
    place = (str(message.topic()), message.partition() or 0, message.offset() or 0)
    return Record(message.key(), message.value(), *place, timestamp if kind else -1)


def _sent(record: Record, rules: Rules) -> str:
    place = f"{record.partition}\t{record.offset}"
    try:
        item = decode(record, rules)
    except Exception:  # noqa: BLE001 - the job rejects whatever fails
        return f"{place}\trejected\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\n"
    event_time = item.version.event_time.isoformat()
    head = f"{_escaped(item.id)}\t{event_time}"
    if isinstance(item, Delete):
        return f"{place}\tdeleted\t{head}\t\\N\t\\N\t\\N\t\\N\n"
    source = _NULL if item.source is None else _escaped(item.source)
    # They are one object for most messages, and to write it takes a while.
    said = event_time if item.timestamp is item.version.event_time else item.timestamp.isoformat()
    metadata = item.metadata.replace("\\", "\\\\")
    return f"{place}\tlive\t{head}\t\\\\x{item.content_hash.hex()}\t{source}\t{said}\t{metadata}\n"


def _escaped(text: str) -> str:
    return text if text.isprintable() and "\\" not in text else text.translate(_ESCAPES)


def dead(messages: Iterable[Message], topic: str) -> str:
    """Lines for the table `dead`: of the records that came from `topic`."""
    lines = (_dead(headers_of(message)) for message in messages)
    return "".join(line for origin, line in lines if origin == topic)


def _dead(headers: dict[str, bytes | None]) -> tuple[str, str]:
    """Where a dead letter came from, and its line; what has no coordinates comes from nowhere."""
    topic, partition, offset, stage, code = (
        (headers.get(f"dlq.{name}") or b"").decode(errors="replace")
        for name in ("topic", "partition", "offset", "stage", "error")
    )
    if not (partition.isdecimal() and offset.isdecimal() and int(partition) < 2**31 and int(offset) < 2**63):
        return "", ""
    return topic, f"{int(partition)}\t{int(offset)}\t{_escaped(stage)}\t{_escaped(code)}\n"
