"""Topics, offsets and producing, over confluent-kafka."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from confluent_kafka import Message

    from embedstream.settings import Settings

TIMEOUT = 10.0
# Longer than an election of a partition's leader takes.
_SILENCE = 30.0
_DAY_MS = 24 * 60 * 60 * 1000
LARGEST_MESSAGE = 16 * 1024 * 1024
# Well above any message: the broker's limit is on compressed batches, the sink's on what goes into them.
LARGEST_DEAD_LETTER = 64 * 1024 * 1024
# What a broker answers while a leader or a group's coordinator is elected or loads; librdkafka does not always wait.
PASSING = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)


class Outgoing(NamedTuple):
    """A record to produce; `timestamp` in milliseconds since the epoch, None for now."""

    value: bytes | None
    key: bytes | None = None
    headers: list[tuple[str, str | bytes | None]] | None = None
    timestamp: int | None = None
    partition: int | None = None


class Position(NamedTuple):
    """Where a group stands in a partition: first and next offset of the log, and the next to read (None: not begun)."""

    partition: int
    first: int
    end: int
    committed: int | None

    @property
    def next(self) -> int:
        return max(self.first, self.committed if self.committed is not None else self.first)

    @property
    def lag(self) -> int:
        return self.end - self.next


def client_config(settings: Settings) -> dict[str, Any]:
    """What every librdkafka client of ours has in common."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
        "logger": None,
        "log_level": 2,
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_sasl_password
        config["sasl.mechanism"] = settings.kafka_sasl_mechanism
        config["sasl.username"] = settings.kafka_sasl_username
        config["sasl.password"] = password.get_secret_value() if password else None
    if settings.kafka_ssl_ca_location:
        config["ssl.ca.location"] = str(settings.kafka_ssl_ca_location)
    return {name: value for name, value in config.items() if value is not None}


def ensure_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing, and return their names.

    The input keeps its records for 30 days, dead letters stay until somebody deletes them; a dead letter may be
    larger than any message, since it carries headers of ours.
    """
    admin = AdminClient(client_config(settings))
    existing = _broker(settings, lambda: admin.list_topics(timeout=TIMEOUT)).topics
    wanted = [
        _topic(settings.kafka_input_topic, settings.flink_parallelism, {"retention.ms": str(30 * _DAY_MS)}),
        _topic(
            settings.kafka_dead_letter_topic,
            1,
            {"retention.ms": "-1", "max.message.bytes": str(LARGEST_DEAD_LETTER + 1024 * 1024)},
        ),
    ]
    missing = [topic for topic in wanted if topic.topic not in existing]
    for name, future in admin.create_topics(missing).items() if missing else ():
        _await_topic(settings, name, future)
    return [topic.topic for topic in missing]


def _topic(name: str, partitions: int, config: dict[str, str]) -> NewTopic:
    return NewTopic(name, num_partitions=partitions, replication_factor=-1, config=config)


def _await_topic(settings: Settings, name: str, future: Any) -> None:  # noqa: ANN401 - untyped upstream
    try:
        _broker(settings, lambda: future.result(TIMEOUT))
    except ConfigError as exc:
        cause = exc.__cause__
        if isinstance(cause, KafkaException) and cause.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return
        raise ConfigError(f"topic {name} cannot be created: {exc}") from exc


def positions(settings: Settings) -> list[Position]:
    """How far the group is in each partition of the input topic; empty where there is no such topic."""
    topic = settings.kafka_input_topic
    with Consumer({**client_config(settings), "group.id": settings.kafka_group_id}) as consumer:
        found = _broker(settings, lambda: consumer.list_topics(timeout=TIMEOUT)).topics.get(topic)
        partitions = [TopicPartition(topic, number) for number in sorted(found.partitions)] if found else []
        if not partitions:
            return []
        committed = _broker(settings, lambda: consumer.committed(partitions, timeout=TIMEOUT))
        ends = [_watermarks(settings, consumer, partition) for partition in partitions]
    return [
        Position(place.partition, first, end, place.offset if place.offset >= 0 else None)
        for place, (first, end) in zip(committed, ends, strict=True)
    ]


def _watermarks(settings: Settings, consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    first, end = _broker(settings, lambda: consumer.get_watermark_offsets(partition, timeout=TIMEOUT))
    return first, end


def count(settings: Settings, topic: str) -> int:
    """Records that a topic holds; 0 where it does not exist."""
    return sum(end - first for first, end in extent(settings, topic).values())


def extent(settings: Settings, topic: str) -> dict[int, tuple[int, int]]:
    """First and next offset of each partition; empty where there is no such topic."""
    with Consumer({**client_config(settings), "group.id": settings.kafka_group_id}) as consumer:
        found = _broker(settings, lambda: consumer.list_topics(timeout=TIMEOUT)).topics.get(topic)
        numbers = sorted(found.partitions) if found else []
        return {number: _watermarks(settings, consumer, TopicPartition(topic, number)) for number in numbers}


def topic_config(admin: AdminClient, topic: str) -> dict[str, str]:
    """The configuration that holds for a topic; raises KafkaException where the broker does not tell."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    entries = admin.describe_configs([resource], request_timeout=TIMEOUT)[resource].result()
    return {name: str(entry.value) for name, entry in entries.items()}


def largest_record(settings: Settings, topic: str) -> int | None:
    """The `max.message.bytes` of a topic; None where the broker does not tell it."""
    try:
        return int(topic_config(AdminClient(client_config(settings)), topic)["max.message.bytes"])
    except (KafkaException, KeyError, ValueError):
        return None


def _broker(settings: Settings, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - untyped upstream
    patient = Retrying(
        retry=retry_if_exception(_passing), wait=wait_fixed(0.2), stop=stop_after_delay(TIMEOUT), reraise=True
    )
    try:
        return patient(call)
    except KafkaException as exc:
        error = exc.args[0]
        raise ConfigError(
            f"Kafka at {settings.kafka_bootstrap_servers}: {error.str()}: check KAFKA_BOOTSTRAP_SERVERS and KAFKA_*"
        ) from exc


def _passing(exc: BaseException) -> bool:
    return isinstance(exc, KafkaException) and exc.args[0].code() in PASSING


def produce(
    settings: Settings, topic: str, records: Iterable[Outgoing], on_sent: Callable[[int], None] = lambda _: None
) -> int:
    """Send records, and return their number once the broker has acknowledged all of them.

    `on_sent` is told the count now and then. Raises ConfigError where a record is refused or the broker stays away;
    what was sent before it may have arrived.
    """
    producer = Producer(
        {**client_config(settings), "enable.idempotence": True, "compression.type": "lz4", "linger.ms": 20,
         "message.max.bytes": LARGEST_MESSAGE, "delivery.timeout.ms": 60_000}
    )  # fmt: skip
    failures: list[KafkaError] = []
    sent = 0
    try:
        for sent, record in enumerate(records, 1):
            _enqueue(producer, topic, record, failures)
            if failures:
                break
            on_sent(sent)
    finally:
        producer.flush()
    if failures:
        raise ConfigError(f"topic {topic} at {settings.kafka_bootstrap_servers}: {failures[0].str()}")
    return sent


def _enqueue(producer: Producer, topic: str, record: Outgoing, failures: list[KafkaError]) -> None:
    def delivered(error: KafkaError | None, _: object) -> None:
        if error:
            failures.append(error)

    options: dict[str, Any] = {"on_delivery": delivered}
    if record.timestamp is not None:
        options["timestamp"] = record.timestamp
    if record.partition is not None:
        options["partition"] = record.partition
    while True:
        try:
            producer.produce(topic, record.value, record.key, headers=record.headers or [], **options)
            producer.poll(0)
            return
        except BufferError:
            producer.poll(0.1)
        except KafkaException as exc:
            failures.append(exc.args[0])
            return


@contextmanager
def tail(settings: Settings, topic: str) -> Iterator[Callable[[float], Iterator[Message]]]:
    """Records that reach a topic from now on: call what is yielded with the seconds to wait for each of them."""
    with Consumer(
        {**client_config(settings), "group.id": settings.kafka_group_id, "enable.auto.commit": False}
    ) as consumer:
        found = _broker(settings, lambda: consumer.list_topics(topic, timeout=TIMEOUT)).topics[topic]
        partitions = [TopicPartition(topic, number) for number in found.partitions]
        for partition in partitions:
            partition.offset = _watermarks(settings, consumer, partition)[1]
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


def first_records(
    settings: Settings, topic: str, offsets: Mapping[int, int], timeout: float = TIMEOUT
) -> list[Message]:
    """The first record of each partition from an offset on; left out where there is none, or none comes in time."""
    found: list[Message] = []
    waiting = set(offsets)
    deadline = time.monotonic() + timeout
    with reader(settings, **{"queued.min.messages": 1, "fetch.wait.max.ms": 10}) as consumer:
        consumer.assign([TopicPartition(topic, *place) for place in offsets.items()])
        while waiting and (left := deadline - time.monotonic()) > 0:
            message = consumer.poll(left)
            if message is None or message.partition() not in waiting:
                continue
            waiting.discard(message.partition() or 0)
            consumer.pause([TopicPartition(topic, message.partition() or 0)])
            found += [] if message.error() else [message]
    return found


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
