"""Any traffic of a chunked pipeline over Avro ends in the table that its newest accepted versions make."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from embedstream import embedding, kafka
from embedstream.audit import audit
from embedstream.decode import registry as registries
from embedstream.decode import unknown
from embedstream.kafka import Outgoing
from support.audit import T0, Job, UnitEmbedder, execute, own_settings
from support.registry import stub_registry
from support.shop import PIPELINES, SCHEMAS, UNUSABLE, expected, is_poisoned
from support.tokenizers import words
from support.traffic import read_topic

pytestmark = pytest.mark.timeout(300)


class Crash(Exception):
    pass


class Crashing(UnitEmbedder):
    """Ends the worker once it has embedded so many texts; what was written by then stays."""

    left = None

    def _one(self, text):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Crash
        return super()._one(text)


class Step(NamedTuple):
    """A batch: so many records of each partition, from so far behind where it was; it may crash on its way."""

    back: int
    counts: tuple[int, int]
    crash_after: int | None


COUNTS = st.tuples(*[st.integers(1, 6)] * 2)
STEPS = st.lists(
    st.builds(Step, st.integers(0, 3), COUNTS, st.none() | st.none() | st.integers(0, 9)), min_size=8, max_size=16
)


def deliver(job, steps):
    """As a job does that is set back again and again; in the end all has been delivered."""
    messages = [[], []]
    for message in job.messages():
        messages[message.partition()].append(message)
    everything = Step(0, tuple(map(len, messages)), None)
    ingest, table = job.worker()
    positions, letters = [0, 0], []
    for step in (*steps, everything):
        positions = [max(0, position - step.back) for position in positions]
        ends = [position + count for position, count in zip(positions, step.counts, strict=True)]
        job.embedder.left = step.crash_after
        try:
            batch = [m for of, first, end in zip(messages, positions, ends, strict=True) for m in of[first:end]]
            letters += job.deliver(ingest, batch)
            positions = [min(end, len(of)) for of, end in zip(messages, ends, strict=True)]
        except Crash:
            table.close()
            ingest, table = job.worker()
    table.close()
    kafka.produce(job.settings, job.settings.kafka_dead_letter_topic, letters)


def assert_table(job, documents):
    table = job.settings.pgvector_table
    live = {id: document for id, document in documents.items() if document}
    states = {id: "live" if id in live else "deleted" for id in documents}
    assert dict(execute(job.settings, f"SELECT id, state FROM {table}_ledger")) == states
    found = execute(job.settings, f"SELECT id, prefix, text, metadata FROM {table}_documents ORDER BY id")
    assert found == [(id, each.title, each.text, each.metadata) for id, each in sorted(live.items())]
    rows = execute(job.settings, f'SELECT id, seq, start, "end", text, embedding FROM {table} ORDER BY id, seq')
    assert [row[:5] for row in rows] == [row for id, each in sorted(live.items()) for row in chunks_of(id, each)]
    for id, *_, text, vector in rows:
        assert np.array_equal(np.array(vector, np.float32), UnitEmbedder().vector(f"{live[id].title}\n\n{text}"))


def chunks_of(id, document):
    for seq, text in enumerate(document.paragraphs):
        start = len("\n\n".join(document.paragraphs[:seq])) + 2 * (seq > 0)
        yield id, seq, start, start + len(text), text


def assert_dead_letters(job, sent, places):
    """A version that the service refuses becomes one only where no newer one was there before it."""
    found = {}
    for letter in read_topic(job.settings.kafka_bootstrap_servers, job.settings.kafka_dead_letter_topic):
        headers = dict(letter.headers())
        found[int(headers["dlq.partition"]), int(headers["dlq.offset"])] = headers["dlq.error"].decode()
    dead = {place: record.says for record, place in zip(sent, places, strict=True) if isinstance(record.says, str)}
    refused = {
        place: "refused" for record, place in zip(sent, places, strict=True)
        if isinstance(record.says, dict) and any(map(is_poisoned, record.says.values()))
    }  # fmt: skip
    assert dead.items() <= found.items() <= (dead | refused).items()


@pytest.fixture
def registry(monkeypatch):
    """What it does not know is unknown at once; no service is asked for a tokenizer."""
    monkeypatch.setattr(unknown, "SECONDS_UNKNOWN", 0.0)
    monkeypatch.setattr(embedding, "read_tokenizer", lambda *_: words())
    with stub_registry() as stub:
        for id, schema in SCHEMAS.items():
            stub.add(id, schema)
        stub.add(UNUSABLE, {"type": "no such"})
        # Its clients are closed with it.
        monkeypatch.setattr(registries, "Registry", lambda access, directory: stub.registry(directory, access))
        yield stub


@pytest.mark.parametrize("name", PIPELINES)
@settings(
    derandomize=True, max_examples=6, deadline=None, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(data=st.data(), steps=STEPS)
def test_any_traffic_and_any_redelivery_end_in_the_newest_accepted_versions(
    name, data, steps, registry, database, kafka
):
    decoding, records = PIPELINES[name]
    sent = data.draw(st.lists(records, min_size=20, max_size=50))
    sent += data.draw(st.lists(st.sampled_from(sent), max_size=5))
    job = started(own_settings(database, kafka), decoding.model_copy(update={"registry": registry.url}))
    places = send(job, sent)
    deliver(job, steps)
    job.commit()
    assert_table(job, expected(sent, places))
    assert_dead_letters(job, sent, places)
    report = audit(job.settings)
    assert (report.equal, report.closes, report.messages) == (True, True, len(sent))


def started(settings, decoding):
    table = settings.kafka_input_topic.replace("-", "_")
    job = Job(
        settings.model_copy(update={"decoding": decoding, "version_by": decoding.version_by, "pgvector_table": table})
    )
    job.embedder = Crashing(poison=("poison",))
    job.begin()
    return job


def send(job, sent):
    """Where each record came to lie."""
    places = {}
    records = [Outgoing(each.value, each.key, None, T0 + each.at, each.partition) for each in sent]
    kafka.produce(
        job.settings, job.settings.kafka_input_topic, records,
        on_delivered=lambda position, *place: places.__setitem__(position, place),
    )  # fmt: skip
    return [places[position] for position in range(len(sent))]
