"""What the latest records of a topic would become; nothing is written anywhere."""

from __future__ import annotations

import heapq
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from embedstream import kafka, services
from embedstream.decode.message import Message, attempt
from embedstream.decode.opening import headers_of
from embedstream.display import printable
from embedstream.errors import ConfigError, EmbedstreamError, Rejected, RetryLater
from embedstream.pipelines.cases import facts_of
from embedstream.splitting import splitter_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedstream.decode.chunks import Splitter
    from embedstream.decode.message import Decode, Item, Record
    from embedstream.settings import Settings

    Facts = dict[str, Any]

_SHOWN = 200
_LISTED = 5


def latest(settings: Settings, count: int) -> list[Record]:
    """The last records of the input topic by their times, oldest first; none where there is no topic yet."""
    extent = kafka.extent(settings, settings.kafka_input_topic)
    ranges = {number: (max(first, end - count), end) for number, (first, end) in extent.items()}
    headers = headers_of(settings)
    records = (kafka.record_of(each, headers) for each in kafka.read(settings, settings.kafka_input_topic, ranges))
    newest = heapq.nlargest(count, records, key=lambda each: (each.timestamp, each.partition, each.offset))
    return newest[::-1]


def splitter_now(settings: Settings) -> Splitter | None:
    """What cuts texts, where they are cut and the service answers."""
    with suppress(EmbedstreamError):
        return splitter_of(*services.find(settings)) if settings.is_chunked else None
    return None


def tried(record: Record, decode: Decode, splitter: Splitter | None = None) -> Facts:
    """Where the record stands, and what becomes of it: `messages` and deletes, `filtered`, or `rejected` and why.

    With a splitter a message has its `chunks`.
    """
    place: Facts = {"partition": record.partition, "offset": record.offset, "timestamp": record.timestamp}
    try:
        items = attempt(record, lambda each: [_facts(item, splitter) for item in decode(each)])
    except RetryLater as exc:
        raise ConfigError(str(exc)) from exc
    if isinstance(items, Rejected):
        return {**place, "rejected": {"error": items.code, "reason": items.reason}}
    return {**place, "messages": items} if items else {**place, "filtered": True}


def _facts(item: Item, splitter: Splitter | None) -> Facts:
    facts = facts_of(item)
    if splitter and isinstance(item, Message) and item.text is not None:
        facts["chunks"] = [each.text for each in splitter.split(item.text, item.prefix)]
        facts["prefix"] = item.prefix
    return facts


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
    if chunks := message.get("chunks"):
        before = f', each behind "{_shortened(message["prefix"])}"' if message["prefix"] else ""
        yield f"  chunks     {len(chunks)}{before}"
        yield from (f"    {number:<8} {_shortened(chunk)}" for number, chunk in enumerate(chunks[:_LISTED], 1))
        if len(chunks) > _LISTED:
            yield f"    and {len(chunks) - _LISTED} more"
    yield f"  timestamp  {message['timestamp']}"
    if message["source"] is not None:
        yield f"  source     {_shortened(message['source'])}"
    if message["metadata"]:
        yield f"  metadata   {_shortened(json.dumps(message['metadata'], ensure_ascii=False))}"


def _shortened(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}… ({len(text):,} characters)"
