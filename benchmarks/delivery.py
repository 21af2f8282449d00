"""Messages on their way from the topic to the table, timed by the database's own commit times."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import Producer
from psycopg.sql import SQL

from embedstream import kafka, store
from embedstream.errors import EmbedstreamError
from embedstream.kafka import Outgoing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg
    from psycopg.sql import Composed

    from embedstream.settings import Settings

_SLICE = 500
_POLL = 0.2
_PATIENCE = 600.0


class Message(NamedTuple):
    id: str
    text: str

    def record(self) -> Outgoing:
        return Outgoing(json.dumps(self._asdict()).encode(), self.id.encode())


def messages(texts: Sequence[str]) -> list[Message]:
    """Each under a random id, so that rows go to all places of the table's index."""
    return [Message(uuid.uuid4().hex, text) for text in texts]


def seconds_to_table(settings: Settings, sent: Sequence[Message]) -> float:
    """From the first record produced, as fast as the broker takes them, to the last row committed."""
    producer = _producer(settings)
    began = time.time()
    for message in sent:
        _send(producer, settings, message)
    producer.flush()
    return max(commit_times(settings, [message.id for message in sent]).values()) - began


def texts_per_second(settings: Settings, texts: Sequence[str]) -> float:
    """Texts a second, each a message of its own."""
    return len(texts) / seconds_to_table(settings, messages(texts))


def latencies(settings: Settings, sent: Sequence[Message], pauses: Sequence[float]) -> list[float]:
    """Seconds from `produce` to the commit for each message, sent after its pause whether others are done or not."""
    producer = _producer(settings)
    produced: dict[str, float] = {}
    due = time.time()
    for message, pause in zip(sent, pauses, strict=True):
        due += pause
        time.sleep(max(0.0, due - time.time()))
        produced[message.id] = due
        _send(producer, settings, message)
    producer.flush()
    return [moment - produced[id] for id, moment in commit_times(settings, list(produced)).items()]


def _producer(settings: Settings) -> Producer:
    """Connected: what a client needs to get that far is no part of a pipeline's time."""
    producer = Producer({**kafka.client_config(settings), "queue.buffering.max.messages": 1_000_000})
    producer.list_topics(settings.kafka_input_topic, timeout=kafka.client.TIMEOUT)
    return producer


def _send(producer: Producer, settings: Settings, message: Message) -> None:
    value, key, *_ = message.record()
    producer.produce(settings.kafka_input_topic, value, key)
    producer.poll(0)


def commit_times(settings: Settings, ids: Sequence[str]) -> dict[str, float]:
    """Wait until all ids are in the table; when each was committed, in seconds since the epoch."""
    with store.connect(settings) as connection:
        _wait(connection, settings, ids)
        statement = _about(settings, SQL("id, extract(epoch FROM pg_xact_commit_timestamp(xmin))"))
        return {id: float(moment) for id, moment in connection.execute(statement, [list(ids)])}


def _wait(connection: psycopg.Connection[Any], settings: Settings, ids: Sequence[str]) -> None:
    """Ask for few ids at a time, and seldom, or the asking would be part of what is measured."""
    deadline = time.monotonic() + _PATIENCE
    slices = [ids[start : start + _SLICE] for start in range(0, len(ids), _SLICE)]
    while slices:
        if stored(connection, settings, slices[0]) == len(slices[0]):
            del slices[0]
        elif time.monotonic() > deadline:
            raise EmbedstreamError(f"messages are not in {settings.pgvector_table} after {_PATIENCE:.0f} s")
        else:
            time.sleep(_POLL)


def stored(connection: psycopg.Connection[Any], settings: Settings, ids: Sequence[str]) -> int:
    """How many of the ids are in the table."""
    [(found,)] = connection.execute(_about(settings, SQL("count(*)")), [list(ids)]).fetchall()
    return int(found)


def _about(settings: Settings, columns: SQL) -> Composed:
    table = store.Names.of(settings.pgvector_table).table
    return SQL("SELECT {columns} FROM {table} WHERE id = ANY(%s)").format(columns=columns, table=table)
