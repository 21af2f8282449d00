"""Finds the records that are about an id, within bounds."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import TopicPartition

from embedstream import kafka
from embedstream.audit import records
from embedstream.decode.default import id_of
from embedstream.decode.fields import id_of_coordinates
from embedstream.decode.formats import parse_json
from embedstream.decode.message import attempt
from embedstream.decode.opening import decoder_of, headers_of
from embedstream.errors import ConfigError, Rejected
from embedstream.journey.report import Looked
from embedstream.kafka import client, record_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from confluent_kafka import Message

    from embedstream.decode.message import Item, Record
    from embedstream.display import Watch
    from embedstream.kafka import Position
    from embedstream.settings import Settings

# What JSON may write as a backslash and one more character.
_ESCAPED = frozenset('"\\/\b\f\n\r\t')


LIMIT = 1_000_000


class Bounds(NamedTuple):
    """What of the topic is looked at: records since a time, of one partition, and at most so many of the newest.

    Unless `everywhere`, an id that is the key of its record is looked for in the partition that its record stands in.
    """

    partition: int | None = None
    since: datetime | None = None
    limit: int | None = LIMIT
    everywhere: bool = False


class Seeker:
    """Knows the records that are about an id; one that is rejected or filtered is, where its key names the id."""

    def __init__(self, settings: Settings, model_name: str | None, *former_models: str) -> None:
        self.decode = decoder_of(settings, model_name, *former_models)
        self.headers = headers_of(settings)
        self._is_default = settings.decoding is None or settings.decoding.is_default

    def record(self, message: Message) -> Record:
        return record_of(message, self.headers)

    def items(self, record: Record) -> Sequence[Item] | Rejected:
        return attempt(record, self.decode)

    def ids(self, record: Record) -> list[str]:
        """Those of its messages; of a record that asks for nothing those that it names all the same."""
        items = self.items(record)
        if isinstance(items, Rejected) or not items:
            return self._named(record)
        return [item.id for item in items]

    def keyed(self, record: Record) -> list[str]:
        """What the record's key alone names."""
        items = attempt(record._replace(value=None), self.decode)
        return [] if isinstance(items, Rejected) else [item.id for item in items]

    def _named(self, record: Record) -> list[str]:
        if self._is_default and record.value is not None:
            with suppress(Rejected, RecursionError):
                body, _ = parse_json(record.value)
                if isinstance(body, dict) and body.get("id") is not None:
                    return [id_of(body, record)]
        return self.keyed(record)

    def of(self, id: str) -> Callable[[Record], bool]:
        may_be = _glance(id) if self._is_default else None

        def is_of(record: Record) -> bool:
            return (may_be is None or may_be(record)) and id in self.ids(record)

        return is_of


def _glance(id: str) -> Callable[[Record], bool]:
    """Whether a record in the default shape may be about the id; much faster than to read it."""
    written = id.encode()
    escape = b"\\" if _ESCAPED & set(id) else b"\\u"

    def may_be(record: Record) -> bool:
        value = record.value
        if record.key == written or (value is not None and (written in value or escape in value)):
            return True
        return id == id_of_coordinates(record.topic, record.partition, record.offset)

    return may_be


def chosen(settings: Settings, positions: Sequence[Position], bounds: Bounds, home: int | None) -> list[Looked]:
    """What is looked at of each partition, in order; `home` is the one where the records of the id stand, if known."""
    numbers = [each.partition for each in positions]
    if bounds.partition is not None and bounds.partition not in numbers:
        names = ", ".join(map(str, numbers))
        raise ConfigError(f"--partition {bounds.partition}: topic {settings.kafka_input_topic} has partitions {names}")
    only = bounds.partition if bounds.partition is not None else None if bounds.everywhere else home
    starts = _starts(settings, numbers, bounds.since) if bounds.since else {}
    wanted = {
        each.partition: max(each.first, starts.get(each.partition, each.first))
        for each in positions
        if only in (None, each.partition)
    }
    shares = kafka.shares({each.partition: each.stable - wanted[each.partition] for each in positions
                      if each.partition in wanted}, bounds.limit)  # fmt: skip
    return [
        Looked(each.partition, each.stable - shares.get(each.partition, 0), each.stable, each.first, each.stable)
        for each in positions
    ]


def _starts(settings: Settings, numbers: Iterable[int], since: datetime) -> dict[int, int]:
    """The first offset of each partition with a record of that time or later; those without any have no start."""
    moment = int(since.timestamp() * 1000)
    wanted = [TopicPartition(settings.kafka_input_topic, number, moment) for number in numbers]
    with kafka.reader(settings) as consumer:
        found = client.asked(settings, lambda: consumer.offsets_for_times(wanted, timeout=client.TIMEOUT))
    return {each.partition: each.offset if each.offset >= 0 else 2**62 for each in found}


def find(
    settings: Settings, topic: str, ranges: Sequence[records.Range], is_of: Callable[[Message], bool], watch: Watch
) -> Iterator[Message]:
    total, done = sum(each.end - each.first for each in ranges), 0
    with watch(f"reading {topic}", total) as update:
        for messages in records.read(settings, topic, ranges):
            yield from filter(is_of, messages)
            update(done := done + len(messages))
