"""The page of the pipelines, over a file and real topics."""

import json

import pytest

from embedstream import kafka
from embedstream.console.app import create_app
from embedstream.console.parts import Parts
from embedstream.kafka import Outgoing
from support.audit import own_settings
from support.console import until

LOCAL = {"base_url": "http://localhost:8083"}
FILE = """
version: 1
pipelines:
  tickets:
    topic: {topic}
    table: tickets
    where: value.kind != 'internal'
    each: value.comments
    id: [value.ticket, item.n]
    text: item.body
  empty: {{topic: {topic}-nobody, table: empty}}
"""


def ticket(number, *bodies, kind="open"):
    comments = [{"n": n, "body": body} for n, body in enumerate(bodies)]
    return Outgoing(json.dumps({"ticket": number, "kind": kind, "comments": comments}).encode(), partition=0)


@pytest.fixture
def pipelines(database, kafka, tmp_path):
    """The client of a console over a file of two pipelines, and the settings of the first."""
    settings = own_settings(database, kafka)
    path = tmp_path / "embedstream.yaml"
    path.write_text(FILE.format(topic=settings.kafka_input_topic))
    parts = Parts.of(settings.model_copy(update={"embedstream_file": path}))
    yield create_app(parts).test_client(), settings
    parts.close()


def tried(client, name, **form):
    client.post(f"/parts/try?pipeline={name}", data=form, **LOCAL)
    until(lambda: "every 1s" not in client.get(f"/parts/try?pipeline={name}", **LOCAL).text, 60)
    return client.get(f"/parts/try?pipeline={name}", **LOCAL).text


def test_the_latest_records_stand_beside_what_they_would_become(pipelines):
    client, settings = pipelines
    kafka.ensure_topics(settings)
    sent = [
        ticket(1, "older"),
        ticket(2, "first", "second"),
        ticket(3, "x", kind="internal"),
        Outgoing(b"[", partition=0),
    ]
    kafka.produce(settings, settings.kafka_input_topic, sent)
    text = tried(client, "tickets", last="3")
    for words in ("2 messages", "<dd>2:0</dd>", "<dd>2:1</dd>", "leaves it out", "not_json", "nothing was written"):
        assert words in text, words
    assert "older" not in text
    assert [end for _, end in kafka.extent(settings, settings.kafka_dead_letter_topic).values()] == [0]
    listed = client.get("/pipelines", **LOCAL).text
    assert "<code>tickets</code>" in listed
    assert "text: item.body" in listed
    assert "The file has changed" not in listed
    assert "no record yet" in tried(client, "empty")
