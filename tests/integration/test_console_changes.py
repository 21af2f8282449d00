"""What the console changes, over a real topic and a real table."""

import json
import re
import time

import pytest

from embedstream import kafka as topics
from embedstream.console.app import create_app
from embedstream.console.parts import Parts, Pipeline
from embedstream.console.watcher import Watcher
from embedstream.status.read import Observer
from support.audit import TABLE, execute, filled, own_settings

LOCAL = {"base_url": "http://localhost:8083"}


@pytest.fixture
def settings(database, kafka):
    return own_settings(database, kafka)


@pytest.fixture
def job(settings):
    return filled(settings)


@pytest.fixture
def console(settings):
    """What a browser has of it; its tasks are its own."""
    pipeline = Pipeline(None, settings, Watcher(Observer(settings)))
    return Browser(create_app(Parts(settings, {pipeline.name: pipeline})).test_client())


class Browser:
    def __init__(self, client):
        self.client = client

    def get(self, path):
        """What a page or a part of it shows once its work is done."""
        deadline = time.monotonic() + 60
        while "every 1s" in (text := self.client.get(path, **LOCAL).text) and time.monotonic() < deadline:
            time.sleep(0.05)
        return text

    def post(self, path, **form):
        answer = self.client.post(path, data=form, **LOCAL)
        assert answer.status_code == 303, answer.text
        return "/parts" + answer.location

    def audit(self, **form):
        return self.get(self.post("/audit", **form))


def sent(settings):
    return list(topics.read(settings, settings.kafka_input_topic))


def test_a_dead_letter_is_found_mended_and_sent_again(job, settings, console):
    assert "None passes the filter" in console.get("/parts/dead-letters?stage=embed")
    job.send_raw(b'{"id": "sick", "text": 7}', partition=1)
    job.send_raw(b"\xff\x00", b"other")
    job.run()
    text = console.get("/parts/dead-letters")
    assert "2 dead letters" in text
    assert text.count("not replayed") == 2
    code = re.search(r"text_[a-z_]+", text)[0]
    text = console.get(f"/parts/dead-letters?code={code}")
    assert "1 dead letter</h2>" in text
    place = re.search(r"/dead-letters/(\d+:\d+)", text)[1]
    shown = console.get(f"/parts/dead-letters/{place}")
    assert "/message/sick" in shown
    before = len(sent(settings))

    as_it_is = console.get(console.post("/dead-letters/rehearsals", place=place))
    assert f"rejected again: {code}" in as_it_is
    path = console.post("/dead-letters/rehearsals", place=place, text='{\r\n "id": "sick", "text": "seven"}')
    assert "stored as sick" in console.get(path)
    assert len(sent(settings)) == before, "a dry run sends nothing"
    console.post(path.removeprefix("/parts"))
    assert f"1 sent to {settings.kafka_input_topic}" in console.get(path)

    again = [record for record in sent(settings) if "dlq.replayed" in topics.headers_of(record)]
    assert [(each.partition(), json.loads(each.value())) for each in again] == [(1, {"id": "sick", "text": "seven"})]
    job.run()
    assert execute(settings, f"SELECT text FROM {TABLE} WHERE id = 'sick'") == [("seven",)]
    assert f"it stands at partition 1, offset {again[0].offset()} again" in console.get("/parts/dead-letters?since=1d")
    assert "1 left out: replayed before" in console.get(console.post("/dead-letters/rehearsals", place=place))


def test_an_audit_is_equal_then_not_and_repaired(job, settings, console):
    text = console.audit()
    assert "<h2>Equal</h2>" in text
    assert "closes: 14 = 8 + 4 + 1 + 1" in text
    execute(settings, f"DELETE FROM {TABLE} WHERE id = 'id-1'")
    text = console.audit()
    assert "<h2>Not equal</h2>" in text
    assert "/message/id-1" in text
    assert 'name="of"' not in text
    text = console.audit(dry_run="1")
    assert "1 would be sent again" in text
    name = text.split('name="of" value="')[1].split('"')[0]
    text = console.get(console.post("/audit/repair", of=name))
    assert "1 sent again" in text
    job.run()
    assert "<h2>Equal</h2>" in console.audit()


def test_an_audit_without_a_topic_says_so(settings, console):
    assert 'role="alert"' in console.audit()
