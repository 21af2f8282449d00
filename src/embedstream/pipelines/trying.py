"""What the latest records of a topic would become; nothing is written anywhere."""

from __future__ import annotations

import heapq
import json
from typing import TYPE_CHECKING, Any

from embedstream import kafka
from embedstream.audit.rows import record_of
from embedstream.decode.opening import headers_of
from embedstream.display import printable
from embedstream.errors import ConfigError, Rejected, RetryLater
from embedstream.pipelines.cases import facts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedstream.decode.message import Decode, Record
    from embedstream.settings import Settings

    Facts = dict[str, Any]

_SHOWN = 200


def latest(settings: Settings, count: int) -> list[Record]:
    """The last records of the input topic by their times, oldest first; none where there is no topic yet."""
    extent = kafka.extent(settings, settings.kafka_input_topic)
    ranges = {number: (max(first, end - count), end) for number, (first, end) in extent.items()}
    headers = headers_of(settings)
    records = (record_of(each, headers) for each in kafka.read(settings, settings.kafka_input_topic, ranges))
    newest = heapq.nlargest(count, records, key=lambda each: (each.timestamp, each.partition, each.offset))
    return newest[::-1]


def tried(record: Record, decode: Decode) -> Facts:
    """Where the record stands, and what becomes of it: `messages` and deletes, `filtered`, or `rejected` and why."""
    place: Facts = {"partition": record.partition, "offset": record.offset, "timestamp": record.timestamp}
    try:
        items = decode(record)
    except Rejected as exc:
        return {**place, "rejected": {"error": exc.code, "reason": exc.reason}}
    except RetryLater as exc:
        raise ConfigError(str(exc)) from exc
    except Exception as exc:  # noqa: BLE001 - as the job has it
        return {**place, "rejected": {"error": "unexpected", "reason": f"reading it failed ({type(exc).__name__})"}}
    return {**place, "messages": [facts_of(item) for item in items]} if items else {**place, "filtered": True}


def lines(facts: Facts) -> Iterator[str]:
    """For people: the record's place, and below it what it becomes."""
    yield f"{facts['partition']}:{facts['offset']}"
    if "rejected" in facts:
        yield f"  rejected   {facts['rejected']['error']}: {printable(facts['rejected']['reason'])}"
    elif "filtered" in facts:
        yield "  filtered"
    for message in facts.get("messages", ()):
        yield from _message(message)


def _message(message: Facts) -> Iterator[str]:
    if "delete" in message:
        yield f"  delete     {printable(message['delete'])}"
        return
    text = message["text"]
    shown = "(unchanged: what is stored is kept)" if text is None else _shortened(text)
    yield f"  id         {printable(message['id'])}"
    yield f"  text       {shown}"
    yield f"  timestamp  {message['timestamp']}"
    if message["source"] is not None:
        yield f"  source     {_shortened(message['source'])}"
    if message["metadata"]:
        yield f"  metadata   {_shortened(json.dumps(message['metadata'], ensure_ascii=False))}"


def _shortened(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}… ({len(text):,} characters)"
