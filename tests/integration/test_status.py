import time
import uuid

import httpx
import pytest

from embedstream import kafka, store
from embedstream.decode.default import decoder
from embedstream.decode.message import Record, Rules
from embedstream.ingest import Ingest
from embedstream.kafka import Outgoing
from embedstream.retry import Patience
from embedstream.space import Space
from embedstream.status.read import Observer, Partition
from support.fakes import HashEmbedder

SPACE = Space("org/model", "r1", 4, normalised=True, max_tokens=256)


@pytest.fixture
def settings(database, kafka):
    name = uuid.uuid4().hex[:8]
    return database.model_copy(
        update={
            "kafka_bootstrap_servers": kafka, "kafka_input_topic": f"in-{name}", "kafka_group_id": f"group-{name}",
            "kafka_dead_letter_topic": f"dead-{name}", "embedding_service_url": "http://127.0.0.1:1",
        }
    )  # fmt: skip


def no_jobs(_):
    return httpx.Response(200, json={"jobs": []})


def observer(settings, seconds=0.1):
    return Observer(settings, httpx.MockTransport(no_jobs), seconds)


def test_topic_and_table(settings):
    kafka.ensure_topics(settings)
    store.prepare(settings, SPACE)
    an_hour_ago = int(time.time() * 1000) - 3_600_000
    records = [Outgoing(b"{}", b"k", None, an_hour_ago + n * 1000, partition=n % 2) for n in range(5)]
    kafka.produce(settings, settings.kafka_input_topic, records)
    looking = observer(settings)
    looking.read()
    table = store.TableStore(settings, SPACE)
    ingest = Ingest(HashEmbedder(), table, decoder(Rules("org/model", 1000)), Patience())
    ingest([Record(b"%d" % n, b'{"text": "x"}' if n else None, "t", 0, n, an_hour_ago) for n in range(10)])
    table.close()
    status = looking.read()
    assert (status.messages, status.lag, status.dead_letters) == (5, 5, 0)
    assert status.partitions == [
        Partition(0, 0, 3, 3, unread=3, stable=3), Partition(1, 0, 2, 2, unread=2, stable=2),
    ]  # fmt: skip
    assert status.oldest_unread_seconds == pytest.approx(3600, abs=60)
    assert (status.rows, status.deleted, status.index.state) == (9, 1, "none")
    deadline = time.monotonic() + 20  # the server publishes its statistics now and then
    rates = [status.rate]
    while not any(rates) and time.monotonic() < deadline:
        time.sleep(0.5)
        rates.append(looking.read().rate)
    assert any(rates)
    assert status.health.state == "down"
    assert list(status.away) == ["service"]


def test_the_oldest_unread_record_is_the_first_beyond_the_offset(settings):
    kafka.ensure_topics(settings)
    kafka.produce(settings, settings.kafka_input_topic, [Outgoing(b"%d" % n, partition=n % 2) for n in range(6)])
    assert [each.head.offset for each in kafka.look(settings, {0: 1, 1: 2}).positions] == [1, 2]
    assert [each.head for each in kafka.look(settings, {0: 3, 1: 3}).positions] == [None, None]


def test_before_the_first_submission_there_is_neither_topic_nor_table(settings):
    status = observer(settings).read()
    assert (status.messages, status.lag, status.partitions) == (0, 0, [])
    assert "there is no table" in status.away["database"]


def test_a_broker_that_is_away_costs_its_own_lines_only(settings, monkeypatch):
    monkeypatch.setattr(kafka.client, "TIMEOUT", 0.5)
    store.prepare(settings, SPACE)
    status = observer(settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})).read()
    assert set(status.away) == {"kafka", "service"}
    assert (status.rows, status.lag) == (0, None)
