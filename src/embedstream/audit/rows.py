"""From records to lines of PostgreSQL's COPY in text form."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from embedstream.decode.default import decode
from embedstream.decode.message import Delete, Record, Rules
from embedstream.kafka import headers_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import Message

_ESCAPES = str.maketrans({"\0": "\N{REPLACEMENT CHARACTER}", "\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_NULL = "\\N"
_EPOCH = datetime.fromtimestamp(0, UTC)


def sent(messages: Iterable[Message], rules: Rules) -> str:
    """Lines for the table `sent`."""
    return "".join(_sent(record_of(message), rules) for message in messages)


def record_of(message: Message) -> Record:
    kind, timestamp = message.timestamp()
    place = (str(message.topic()), message.partition() or 0, message.offset() or 0)
    return Record(message.key(), message.value(), *place, timestamp if kind else -1)


def _sent(record: Record, rules: Rules) -> str:
    place = f"{record.partition}\t{record.offset}\t{record.timestamp}"
    try:
        item = decode(record, rules)
    except Exception:  # noqa: BLE001 - the job rejects whatever fails
        return f"{place}\tf\trejected\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\n"
    event_time = item.version.event_time.isoformat()
    head = f"{_escaped(item.id)}\t{event_time}"
    if isinstance(item, Delete):
        return f"{place}\tf\tdeleted\t{head}\t\\N\t\\N\t\\N\t\\N\n"
    source = _NULL if item.source is None else _escaped(item.source)
    # They are one object for most messages, and to write it takes a while.
    said = event_time if item.timestamp is item.version.event_time else item.timestamp.isoformat()
    metadata = item.metadata.replace("\\", "\\\\")
    timed = "t" if item.timed else "f"
    hash_ = f"\\\\x{item.content_hash.hex()}" if item.content_hash else _NULL
    return f"{place}\t{timed}\tlive\t{head}\t{hash_}\t{source}\t{said}\t{metadata}\n"


def _escaped(text: str) -> str:
    return text if text.isprintable() and "\\" not in text else text.translate(_ESCAPES)


def dead(messages: Iterable[Message], topic: str) -> str:
    """Lines for the table `dead`: of the records that came from `topic`."""
    lines = (_dead(headers_of(message)) for message in messages)
    return "".join(line for origin, line in lines if origin == topic)


def _dead(headers: dict[str, bytes | None]) -> tuple[str, str]:
    """Where a dead letter came from, and its line; what has no coordinates comes from nowhere."""
    topic, partition, offset, at, topic_id, stage, code = (
        (headers.get(f"dlq.{name}") or b"").decode(errors="replace")
        for name in ("topic", "partition", "offset", "timestamp", "topic_id", "stage", "error")
    )
    if not (partition.isdecimal() and offset.isdecimal() and int(partition) < 2**31 and int(offset) < 2**63):
        return "", ""
    facts = (_milliseconds(at), _escaped(topic_id) or _NULL, _escaped(stage), _escaped(code))
    return topic, "\t".join((str(int(partition)), str(int(offset)), *facts)) + "\n"


def _milliseconds(moment: str) -> str:
    """Of an ISO time since the epoch; null where it is none."""
    try:
        return str((datetime.fromisoformat(moment) - _EPOCH) // timedelta(milliseconds=1))
    except (ValueError, TypeError, OverflowError):
        return _NULL
