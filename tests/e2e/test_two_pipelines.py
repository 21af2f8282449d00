"""Two pipelines of one file through the whole stack: documents as chunks, and records that hold several messages."""

import json
import random
import time
from pathlib import Path

import pytest

from embedstream import kafka
from embedstream.kafka import Outgoing
from embedstream.pipelines.choice import all_settings
from support.stack import running_stack, wait

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

FILE = """
version: 1
defaults: {parallelism: 1}
pipelines:
  documents:
    topic: documents
    table: documents
    text: value.body
    metadata: {lang: headers.lang}
    chunks: {tokens: 40, prefix: value.title}
  comments:
    topic: comments
    table: comment_embeddings
    each: value.comments
    where: item.kind != 'internal'
    delete: item.gone
    id: [value.ticket, item.n]
    text: {from: item.html, as: html}
    tests:
      - {value: {ticket: 1, comments: [{n: 2, html: "<p>a <b>b</b></p>"}]}, expect: {id: "1:2", text: "a b"}}
"""
SENTENCES = [f"Sentence {n} of a document says something that no other one says." for n in range(60)]


@pytest.fixture
def stack(tmp_path):
    file = tmp_path / "embedstream.yaml"
    file.write_text(FILE)
    with running_stack(tmp_path / "stack", {"EMBEDDING_MODEL": "fake:64", "EMBEDSTREAM_FILE": str(file)}) as stack:
        yield stack


def documents(rng, rounds):
    """Versions of twenty documents, and what is to be there in the end."""
    records, texts = [], {}
    for turn in range(rounds):
        id = f"d{rng.randrange(20)}"
        if rng.random() < 0.1:
            records.append(Outgoing(None, id.encode(), partition=0))
            texts.pop(id, None)
            continue
        texts[id] = "\n\n".join(rng.sample(SENTENCES, rng.randrange(1, 40)))
        value = json.dumps({"body": texts[id], "title": f"Title {turn % 3}"}).encode()
        records.append(Outgoing(value, id.encode(), [("lang", b"en")], partition=0))
    return records, texts


def comments(rng, rounds):
    records, rows = [], {}
    for turn in range(rounds):
        ticket, items = rng.randrange(10), []
        for n in rng.sample(range(6), 3):
            kind = rng.choice(["public", "public", "internal", "gone"])
            item = {"n": n, "html": f"<p>Turn {turn}, <b>no.</b> {n}</p>", "kind": kind, "gone": kind == "gone"}
            items.append(item)
            if kind == "public":
                rows[f"{ticket}:{n}"] = f"Turn {turn}, no. {n}"
            elif kind == "gone":
                rows.pop(f"{ticket}:{n}", None)
        records.append(Outgoing(json.dumps({"ticket": ticket, "comments": items}).encode(), b"x", partition=0))
    return records, rows


def is_proven(stack, name):
    done = stack.command("audit", "--pipeline", name, "--json", check=False, timeout=120)
    report = json.loads(done.stdout)
    return report["equal"] and report["closes"] and report["in_flight"] == 0


def test_tables_equal_their_topics_whatever_is_killed(stack):
    rng = random.Random(time.time_ns())
    base = stack.settings.model_copy(update={"embedstream_file": Path(stack.environment["EMBEDSTREAM_FILE"])})
    pipelines = all_settings(base)
    assert pipelines.keys() == {"documents", "comments"}
    sent = {"documents": documents(rng, 120), "comments": comments(rng, 120)}
    for half in (slice(0, 60), slice(60, None)):
        for name, settings in pipelines.items():
            kafka.produce(settings, settings.kafka_input_topic, sent[name][0][half])
        for worker in stack.python_workers():
            worker.kill()
    for name in pipelines:
        wait(lambda name=name: is_proven(stack, name), 120, f"the proof of {name}")
    texts, rows = sent["documents"][1], sent["comments"][1]
    assert dict(stack.query("SELECT id, text FROM comment_embeddings")) == rows
    assert dict(stack.query("SELECT id, text FROM documents_documents")) == texts
    found = {}
    for id, start, end, text, prefix, lang in stack.query(
        "SELECT id, start, \"end\", text, prefix, metadata->>'lang' FROM documents_vectors ORDER BY id, seq"
    ):
        assert texts[id][start:end] == text
        assert (prefix[:6], lang) == ("Title ", "en")
        found.setdefault(id, []).append(text)
    for id, text in texts.items():
        assert "".join("".join(found[id]).split()) == "".join(text.split())
    first = json.loads(stack.command("pipelines", "try", "comments", "--last", "1", "--json").stdout)["records"][0]
    assert {"messages", "filtered"} & first.keys()
    assert stack.command("pipelines", "check").stdout == "documents: ok\ncomments: ok, 1 test\n"
    assert stack.command("pipelines", "diff").returncode == 0
    findings = json.loads(stack.command("doctor", "--pipeline", "documents", "--json", check=False).stdout)
    assert [each for each in findings if each["state"] == "FAIL"] == []
