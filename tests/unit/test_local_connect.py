"""Kafka Connect as a part of the embedded stack: what it is started with, and what is made of its answers."""

import json
import stat

import httpx
import pytest

from embedstream.errors import ConfigError
from embedstream.local import connect
from embedstream.local.connect import Connect, keep, kept_connectors
from embedstream.local.postgres import Postgres, slots
from embedstream.settings import load_settings

TRACE = """\
io.debezium.DebeziumException: the position is no longer there
\tat io.debezium.A.a(A.java:1)
Caused by: java.lang.IllegalStateException: one
\tat io.debezium.B.b(B.java:1)
Caused by: org.postgresql.util.PSQLException: ERROR: slot is gone
  Detail: none
"""


@pytest.fixture
def part(tmp_path, monkeypatch):
    settings = load_settings(
        pgvector_host="127.0.0.1", pgvector_port=5, pgvector_db="shop", kafka_bootstrap_servers="k:1"
    )
    monkeypatch.setattr(connect, "jar_paths", lambda section, _: [tmp_path / f"{section}.jar"])
    return Connect(tmp_path / "connect", settings, 8083, tmp_path, tmp_path / "connect.log")


def properties(path):
    """As Java reads them: of two lines for one name the last holds."""
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if line and not line.startswith("#"))


def connector(directory, text="topic.prefix=shop\n", name="articles.properties"):
    path = directory / name
    path.write_text(text)
    return path


def test_a_connector_reads_the_stack_s_own_database_unless_it_names_another(part, tmp_path):
    mine = connector(tmp_path, "# mine\ntopic.prefix = a\npublication.autocreate.mode=disabled")
    theirs = connector(tmp_path, "database.hostname: db\ntopic.prefix=b", "theirs.conf")
    keep([mine, theirs], tmp_path / "connect")
    *_, worker, first, second = part.program().argv
    assert properties(tmp_path / "connect" / "complete" / "worker.properties")["bootstrap.servers"] == "k:1"
    assert worker.endswith("worker.properties")
    found = (tmp_path / "connect" / "complete" / "connector-articles.properties").read_text()
    assert first.endswith("connector-articles.properties")
    assert "database.port=5\n" in found
    assert "name=articles\n" in found
    assert found.index("publication.autocreate.mode=filtered") < found.index("publication.autocreate.mode=disabled")
    assert second.endswith("connector-theirs.properties")
    assert "database.port" not in (tmp_path / "connect" / "complete" / "connector-theirs.properties").read_text()


def test_connectors_are_kept_until_others_are_named(tmp_path):
    kept = tmp_path / "kept"
    keep([connector(tmp_path), connector(tmp_path, name="b.properties")], kept)
    keep([], kept)
    assert [path.name for path in kept_connectors(kept)] == ["articles.properties", "b.properties"]
    keep([connector(tmp_path, "topic.prefix=c\n")], kept)
    [only] = kept_connectors(kept)
    assert only.read_text() == "topic.prefix=c\n"
    assert stat.S_IMODE(only.stat().st_mode) == 0o600


def test_what_cannot_be_a_connector_is_one_clear_sentence(tmp_path):
    kept = tmp_path / "kept"
    with pytest.raises(ConfigError, match="no connector: name a file of its properties with --connector"):
        keep([], kept)
    with pytest.raises(ConfigError, match=r"--connector .*missing cannot be read"):
        keep([tmp_path / "missing"], kept)
    with pytest.raises(ConfigError, match="two files are called articles"):
        keep([connector(tmp_path), connector(tmp_path, name="articles.conf")], kept)


def answer(monkeypatch, *states, status=200):
    tasks = [{"id": number, "state": state, "trace": TRACE} for number, state in enumerate(states)]
    facts = {"articles": {"status": {"name": "articles", "connector": {"state": "RUNNING"}, "tasks": tasks}}}

    def get(url, **_):
        assert url == "http://127.0.0.1:8083/connectors?expand=status"
        return httpx.Response(status, text=json.dumps(facts))

    monkeypatch.setattr(httpx, "get", get)


def test_it_is_ready_when_every_connector_s_task_runs(part, tmp_path, monkeypatch):
    keep([connector(tmp_path)], tmp_path / "connect")
    for states, ready in {(): False, ("UNASSIGNED",): False, ("FAILED",): False, ("RUNNING",): True}.items():
        answer(monkeypatch, *states)
        assert part.is_ready() is ready, states
    answer(monkeypatch, "RUNNING", status=500)
    assert not part.is_ready()


def test_a_failed_task_is_trouble_with_its_reason(part, monkeypatch):
    answer(monkeypatch, "RUNNING")
    assert part.trouble() is None
    answer(monkeypatch, "FAILED")
    assert part.trouble() == (
        "connector articles failed: io.debezium.DebeziumException: the position is no longer there"
        " because of org.postgresql.util.PSQLException: ERROR: slot is gone"
    )


def test_nobody_who_answers_is_no_trouble_of_a_connector(part, monkeypatch):
    def refused(*_, **__):
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(httpx, "get", refused)
    assert part.trouble() is None
    assert not part.is_ready()


@pytest.mark.parametrize(("is_source", "has_slot"), [(False, False), (True, False), (False, True)])
def test_postgres_lets_changes_be_followed_where_somebody_does_or_did(tmp_path, monkeypatch, is_source, has_slot):
    data = tmp_path / "data"
    (data / "pg_replslot").mkdir(parents=True)
    if has_slot:
        (data / "pg_replslot" / "articles").mkdir()
    assert slots(tmp_path) == (["articles"] if has_slot else [])
    monkeypatch.setattr("embedstream.local.postgres._command", lambda _program, _data, *arguments: arguments)
    started = Postgres(tmp_path, 1, "db", tmp_path / "log", is_source=is_source).program()
    assert ("wal_level=logical" in started) is (is_source or has_slot)
    assert ("max_slot_wal_keep_size=1024MB" in started) is (is_source or has_slot)
