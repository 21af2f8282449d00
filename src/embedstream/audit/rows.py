"""From records to lines of PostgreSQL's COPY in text form."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from embedstream.decode.message import Decode, Delete, Item, Record, attempt
from embedstream.errors import Rejected
from embedstream.kafka import headers_of, record_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from confluent_kafka import Message

_ESCAPES = str.maketrans({"\0": "\N{REPLACEMENT CHARACTER}", "\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_NULL = "\\N"
_NOTHING = "\t\\N" * 6 + "\n"
_EPOCH = datetime.fromtimestamp(0, UTC)


def sent(messages: Iterable[Message], decode: Decode, headers: Sequence[str] = ()) -> str:
    """Lines for the table `sent`; raises RetryLater where the outside world is asked and does not answer."""
    return "".join(_sent(record_of(message, headers), decode) for message in messages)


def _sent(record: Record, decode: Decode) -> str:
    place = f"{record.partition}\t{record.offset}"
    items = attempt(record, decode)
    if isinstance(items, Rejected):
        return f"{place}\t0\tf\t{record.timestamp}\tf\trejected{_NOTHING}"
    if not items:
        return f"{place}\t0\tf\t{record.timestamp}\tf\tfiltered{_NOTHING}"
    return "".join(
        f"{place}\t{item.version.item}\t{'t' if number else 'f'}\t{record.timestamp}\t{_facts(item)}"
        for number, item in enumerate(items)
    )


def _facts(item: Item) -> str:
    event_time = item.version.event_time.isoformat()
    head = f"{_escaped(item.id)}\t{event_time}"
    if isinstance(item, Delete):
        return f"f\tdeleted\t{head}\t\\N\t\\N\t\\N\t\\N\n"
    source = _NULL if item.source is None else _escaped(item.source)
    # They are one object for most messages, and to write it takes a while.
    said = event_time if item.timestamp is item.version.event_time else item.timestamp.isoformat()
    metadata = item.metadata.replace("\\", "\\\\")
    timed = "t" if item.timed else "f"
    hash_ = f"\\\\x{item.content_hash.hex()}" if item.content_hash else _NULL
    return f"{timed}\tlive\t{head}\t{hash_}\t{source}\t{said}\t{metadata}\n"


def _escaped(text: str) -> str:
    return text if text.isprintable() and "\\" not in text else text.translate(_ESCAPES)


def dead(messages: Iterable[Message], topic: str) -> str:
    """Lines for the table `dead`: of the records that came from `topic`."""
    lines = (_dead(headers_of(message)) for message in messages)
    return "".join(line for origin, line in lines if origin == topic)


def _dead(headers: dict[str, bytes | None]) -> tuple[str, str]:
    """Where a dead letter came from, and its lines; what has no coordinates comes from nowhere."""
    topic, partition, offset, items, at, topic_id, stage, code = (
        (headers.get(f"dlq.{name}") or b"").decode(errors="replace")
        for name in ("topic", "partition", "offset", "items", "timestamp", "topic_id", "stage", "error")
    )
    if not (partition.isdecimal() and offset.isdecimal() and int(partition) < 2**31 and int(offset) < 2**63):
        return "", ""
    place = f"{int(partition)}\t{int(offset)}"
    facts = "\t".join((_milliseconds(at), _escaped(topic_id) or _NULL, _escaped(stage), _escaped(code)))
    numbers = [item for item in items.split(",") if item.removeprefix("-").isdecimal() and int(item) < 2**31]
    return topic, "".join(f"{place}\t{item}\t{facts}\n" for item in numbers or [_NULL])


def _milliseconds(moment: str) -> str:
    """Of an ISO time since the epoch; null where it is none."""
    try:
        return str((datetime.fromisoformat(moment) - _EPOCH) // timedelta(milliseconds=1))
    except (ValueError, TypeError, OverflowError):
        return _NULL
