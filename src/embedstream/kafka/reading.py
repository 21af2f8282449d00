"""Reading records, without committing anything."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

from embedstream.decode.message import Record
from embedstream.errors import ConfigError
from embedstream.kafka import client
from embedstream.kafka.client import asked, client_config
from embedstream.kafka.offsets import extent, watermarks
from embedstream.limits import HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Self

    from confluent_kafka import Message

    from embedstream.settings import Settings

# Longer than an election of a partition's leader takes.
_SILENCE = 30.0
# Seconds by which the clocks of machines that are well kept may differ.
_SKEW = 5.0


class Head(NamedTuple):
    """The first record from an offset on; the timestamp in milliseconds since the epoch, None where it has none."""

    offset: int
    timestamp: int | None

    @classmethod
    def of(cls, message: Message) -> Self:
        kind, timestamp = message.timestamp()
        return cls(message.offset() or 0, timestamp if kind else None)

    @property
    def age(self) -> float | None:
        """In seconds, by this machine's clock; not known of a record that is dated well ahead of it."""
        if self.timestamp is None:
            return None
        age = time.time() - self.timestamp / 1000
        return max(0.0, age) if age > -_SKEW else None


@contextmanager
def tail(settings: Settings, topic: str) -> Iterator[Callable[[float], Iterator[Message]]]:
    """Records that reach a topic from now on: call what is yielded with the seconds to wait for each of them."""
    with Consumer(
        {**client_config(settings), "group.id": settings.kafka_group_id, "enable.auto.commit": False}
    ) as consumer:
        found = asked(settings, lambda: consumer.list_topics(topic, timeout=client.TIMEOUT)).topics[topic]
        partitions = [TopicPartition(topic, number) for number in found.partitions]
        for partition in partitions:
            partition.offset = watermarks(settings, consumer, partition)[1]
        consumer.assign(partitions)

        def records(timeout: float) -> Iterator[Message]:
            while (message := consumer.poll(timeout)) is not None:
                if message.error() is None:
                    yield message

        yield records


def read(
    settings: Settings, topic: str, ranges: Mapping[int, tuple[int, int]] | None = None, batch: int = 1000
) -> Iterator[Message]:
    """The records of half-open ranges of offsets by partition; without ranges all that the topic holds at the call.

    Offsets have gaps, so a range ends where a record beyond it comes, or the end of its partition.
    """
    ranges = extent(settings, topic) if ranges is None else ranges
    left = {number: end for number, (first, end) in ranges.items() if first < end}
    with reader(settings) as consumer:
        consumer.assign([TopicPartition(topic, number, ranges[number][0]) for number in left])
        while left:
            for message in _consume(settings, consumer, batch):
                number, offset = message.partition() or 0, message.offset() or 0
                end = left.get(number, 0)
                if offset < end and not message.error():
                    yield message
                if number in left and (message.error() or offset >= end - 1):
                    del left[number]
                    consumer.pause([TopicPartition(topic, number)])


def reader(settings: Settings, **options: Any) -> Consumer:
    """A consumer to assign places to: reads committed records, tells ends of partitions as errors, commits nothing."""
    return Consumer(
        {
            **client_config(settings), "group.id": settings.kafka_group_id, "enable.auto.commit": False,
            "isolation.level": "read_committed", "auto.offset.reset": "earliest", "enable.partition.eof": True,
            # What waits in memory: the limits count compressed bytes, which may be a twentieth of the records.
            "queued.max.messages.kbytes": 16_384, "queued.min.messages": 20_000, "fetch.message.max.bytes": 1024 * 1024,
            "fetch.wait.max.ms": 50, "check.crcs": False, **options,
        }
    )  # fmt: skip


def is_end(error: KafkaError) -> bool:
    return error.code() == KafkaError._PARTITION_EOF  # noqa: SLF001 - there is no public name


def heads(settings: Settings, topic: str, offsets: Mapping[int, int], isolation: str) -> dict[int, Head | None]:
    """The first record of each partition from an offset on, None where there is none up to its end.

    A partition of which nothing is known in time is left out.
    """
    if not offsets:
        return {}
    found: dict[int, Head | None] = {}
    deadline = time.monotonic() + client.TIMEOUT
    options = {"queued.min.messages": 1, "fetch.wait.max.ms": 10, "isolation.level": isolation}
    with reader(settings, **options) as consumer:
        consumer.assign([TopicPartition(topic, *place) for place in offsets.items()])
        while len(found) < len(offsets) and (left := deadline - time.monotonic()) > 0:
            message = consumer.poll(left)
            number = None if message is None else message.partition()
            if message is None or number is None or number in found or number not in offsets:
                continue
            error = message.error()
            if error is None or is_end(error):
                consumer.pause([TopicPartition(topic, number)])
                found[number] = None if error else Head.of(message)
    return found


def has_record(settings: Settings, topic: str, partition: int, start: int, end: int) -> bool:
    """Whether a committed record lies at `start` or between it and `end`."""
    return next(read(settings, topic, {partition: (start, end)}, 1), None) is not None


def _consume(settings: Settings, consumer: Consumer, batch: int) -> list[Message]:
    """What has come: records, and ends of partitions as errors. Raises ConfigError where nothing comes for long."""
    deadline = time.monotonic() + _SILENCE
    messages: list[Message] = []
    while not messages and time.monotonic() < deadline:
        messages = consumer.consume(batch, 0.05)
    errors = [error for message in messages if (error := message.error())]
    failures = [error.str() for error in errors if not is_end(error)]
    if failures or not messages:
        reason = failures[0] if failures else f"no record within {_SILENCE:.0f} s"
        raise ConfigError(f"Kafka at {settings.kafka_bootstrap_servers}: {reason}: check KAFKA_*")
    return messages


def headers_of(message: Message) -> dict[str, bytes | None]:
    """A record's headers; of a name that stands there twice, the last."""
    headers: Any = message.headers()
    return dict(headers or [])


def record_of(message: Message, headers: Sequence[str] = ()) -> Record:
    """With those of these headers that it has; as the job has it, one without a value is none."""
    kind, timestamp = message.timestamp()
    place = (str(message.topic()), message.partition() or 0, message.offset() or 0)
    record = Record(message.key(), message.value(), *place, timestamp if kind else -1)
    if not headers:
        return record
    found = headers_of(message)
    named = {name: value[:HEADER_BYTES] for name in headers if (value := found.get(name)) is not None}
    return record._replace(headers=named)
