"""A search that waits for a record has it, whoever else writes and searches meanwhile."""

import json
import queue
import threading
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from embedstream import cli, embedding, store
from embedstream.decode.message import Delete, Version
from embedstream.errors import ConfigError
from embedstream.index.build import build
from embedstream.ingest import Change, Embedded, Step
from embedstream.search.problem import NotReached
from embedstream.search.request import Request
from embedstream.search.searcher import Searcher
from support.index import MOMENT, change, fill, space
from support.search import answer

pytestmark = pytest.mark.timeout(240)

TOPIC = "text-messages"
TIMES = 1000
VECTORS = np.random.default_rng(2).standard_normal((TIMES, 8)).astype(np.float32)


class Service:
    """Embeds the words `3` as the text of the third message is."""

    def __init__(self, *_, **__):
        pass

    def embed_query(self, words):
        return Embedded(VECTORS[int(words)], 1, False)

    def close(self):
        pass


@pytest.fixture
def table(database, monkeypatch):
    monkeypatch.setattr(embedding, "EmbeddingClient", Service)
    monkeypatch.setattr(embedding, "embed_query", lambda *_, **__: Embedded(VECTORS[0], 1, False))
    store.prepare(database, space(8))
    return database


@pytest.mark.parametrize(("times", "indexed"), [(200, False), (TIMES, True)], ids=["no index", "indexes"])
def test_a_thousand_times_what_was_written_is_found(table, times, indexed):
    """A worker of two partitions writes behind a queue, with pauses; who sends knows offsets alone."""
    if indexed:
        fill(table, 2000, first=10_000)
        for kind in ("vector", "words", "metadata"):
            build(table, kind=kind)
    sent = queue.Queue()

    def work():
        writer = store.TableStore(table, space(8))
        while (number := sent.get()) is not None:
            time.sleep(0.001 * (number % 4))
            advance = {(TOPIC, number % 2): Step(number // 2 + 1)}
            assert writer.write([change(number, VECTORS[number])], advance).won
        writer.close()

    worker = threading.Thread(target=work)
    worker.start()
    found = 0
    try:
        with Searcher(table) as searcher:
            for number in range(times):
                sent.put(number)
                mode = ("semantic", "keyword", "hybrid")[number % 3]
                request = Request(query=str(number), k=1, mode=mode, wait_for={number % 2: number // 2}, timeout=30)
                got = searcher.search(request)
                found += got.hits[0].id == str(number)
                assert got.as_of[number % 2] > number // 2
    finally:
        sent.put(None)
        worker.join(30)
    assert found == times


def test_progress_and_rows_are_of_one_moment(table):
    """While messages are stored and deleted in turns, the offset tells which of the two an answer holds."""
    writer = store.TableStore(table, space(8))
    stopping = threading.Event()

    def work():
        offset = 0
        while not stopping.is_set():
            version = Version(MOMENT, TOPIC, 0, offset)
            item = change(0, VECTORS[0])
            item = item._replace(item=item.item._replace(version=version))
            gone = Change(Delete("0", version._replace(offset=offset)), None)
            writer.write([item if offset % 2 == 0 else gone], {(TOPIC, 0): Step(offset + 1)})
            offset += 1

    worker = threading.Thread(target=work)
    worker.start()
    seen = set()
    try:
        with store.connect(table) as connection:
            for _ in range(300):
                got = answer(connection, table, VECTORS[0])
                stands = (got.as_of or {}).get(0, 0)
                assert len(got.hits) == stands % 2
                seen.add(stands)
    finally:
        stopping.set()
        worker.join(30)
    writer.close()
    assert len(seen) > 20


def test_a_record_that_does_not_come_is_told_with_how_far_the_table_is(table):
    writer = store.TableStore(table, space(8))
    writer.write([change(1, VECTORS[1])], {(TOPIC, 0): Step(5)})
    writer.close()
    with Searcher(table) as searcher:
        assert searcher.search(Request(query="1", wait_for={0: 4}, timeout=0)).as_of == {0: 5}
        began = time.monotonic()
        with pytest.raises(NotReached, match=r"offset 5 of partition 0 \(it is before offset 5\)") as failure:
            searcher.search(Request(query="1", wait_for={0: 5}, timeout=0.3))
        assert 0.2 < time.monotonic() - began < 5
    assert failure.value.as_of == {0: 5}


def test_those_who_wait_keep_no_connection_from_those_who_do_not(table):
    with Searcher(table, connections=2) as searcher:

        def wait():
            with pytest.raises(NotReached):
                searcher.search(Request(query="1", wait_for={0: 9}, timeout=2))

        waiting = [threading.Thread(target=wait) for _ in range(20)]
        for thread in waiting:
            thread.start()
        took = []
        while any(thread.is_alive() for thread in waiting):
            began = time.monotonic()
            searcher.search(Request(query="1"))
            took.append(time.monotonic() - began)
        assert len(took) > 5
        assert sorted(took)[len(took) // 2] < 0.5


def environment(settings):
    return {name: value for name, value in settings.to_env().items() if name.startswith("PGVECTOR_")}


@pytest.fixture
def run(table):
    def run(*arguments):
        done = CliRunner().invoke(cli.app, ["search", *arguments], env=environment(table), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def test_the_command_prints_what_it_always_did(table, run):
    fill(table, 20)
    with store.connect(table) as connection:
        best = answer(connection, table, VECTORS[0], k=3).hits
    assert run("0", "-k", "3").splitlines()[0].split() == ["similarity", "id", "text"]
    assert [line.split()[1] for line in run("0", "-k", "3").splitlines()[1:]] == [hit.id for hit in best]
    hits = json.loads(run("0", "-k", "3", "--json"))
    assert [list(hit)[:6] for hit in hits] == [
        ["similarity", "id", "text", "source", "message_timestamp", "metadata"]
    ] * 3
    (document, *_) = json.loads(run("0", "--by", "document", "--json"))
    assert list(document)[6:10] == ["seq", "start", "end", "matching_chunks"]


def test_the_command_s_options(table, run):
    writer = store.TableStore(table, space(8))
    writer.write([change(number, VECTORS[number]) for number in range(20)], {(TOPIC, 1): Step(7)})
    writer.close()
    found = json.loads(run("text 7", "--mode", "keyword", "--json", "--explain", "--highlight", "--wait-for", "1:6"))
    assert (found["as_of"], found["method"], found["complete"]) == ({"1": 7}, "exact", True)
    assert [hit["id"] for hit in found["hits"]] == ["7"]
    assert found["hits"][0]["highlights"] == [[0, 4], [5, 6]]
    assert "score   similarity  id" in run("text", "--mode", "hybrid")
    assert run("text", "--explain").splitlines()[-1].startswith("exact, complete; as of partition:offset 1:7; embed ")
    first, second = (run("text", "-k", "5", "--offset", offset).splitlines()[1:] for offset in ("0", "5"))
    assert len({*first, *second}) == 10
    like = json.loads(run("--like", "3", "--json", "-k", "100", "--min-similarity", "-1"))
    assert len(like) == 19
    assert (
        json.loads(run("x", "--words", "17", "--json", "--after", "2025-11-24", "--before", "2026-01-01"))[0]["id"]
        == "17"
    )
    assert json.loads(run("x", "--before", "2025-11-24", "--json")) == []
    tree = '{"and": [{"field": "metadata.rare", "value": true}, {"field": "id", "op": "prefix", "value": "0"}]}'
    assert [hit["id"] for hit in json.loads(run("x", "--filter", tree, "--where", "rare=true", "--json"))] == ["0"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "say what to look for: words, or --like ID"),
        (["x", "--like", "1"], "say what to look for"),
        (["--like", "1", "--mode", "keyword"], "mode keyword looks for words"),
        (["x", "--filter", "year=3"], "--filter: write a JSON object"),
        (["x", "--filter", '{"field": "year", "value": 3}'], "there is no field year"),
        (["x", "--after", "yesterday"], "--after 'yesterday': write ISO 8601"),
        (["x", "--wait-for", "4711"], "--wait-for '4711': write partition:offset"),
        (["x", "--wait-for", "0:9", "--timeout", "0"], "did not come to offset 9 of partition 0"),
        (["--like", "nobody"], "no row of this id"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_what_the_command_cannot_do_is_one_clear_sentence(table, run, arguments, says):
    with pytest.raises((ConfigError, NotReached)) as failure:
        run(*arguments)
    assert says in str(failure.value)
    assert "\n" not in str(failure.value)
