import json
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from psycopg.sql import SQL, Identifier

from embedstream import embedding, kafka, store
from embedstream.doctor import CHECKS, examine
from embedstream.errors import ConfigError
from embedstream.index.build import build
from embedstream.jars import locked_jars
from embedstream.kafka import Outgoing
from embedstream.space import Origin
from support.flink import recorded
from support.progress import record_progress

(RUNNING,) = recorded("jobs.json")["jobs"]
GOOD_CLUSTER = {
    "/overview": recorded("overview.json"),
    "/jobs/overview": {"jobs": [RUNNING | {"jid": "j1"}]},
    "/jobs/j1": recorded("job.json"),
    "/jobmanager/environment": recorded("environment.json"),
    "/jobmanager/config": [],
    "/taskmanagers": recorded("taskmanagers.json"),
    "/jobs/j1/exceptions": recorded("exceptions-broker.json"),
}


@pytest.fixture
def cluster():
    """A JobManager's answers by path, and its address."""
    answers = json.loads(json.dumps(GOOD_CLUSTER))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(answers[self.path]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield answers, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def world(database, kafka, service_url, cluster):
    """Settings with everything in place but the topics and the table."""
    name = uuid.uuid4().hex[:8]
    return database.model_copy(
        update={
            "kafka_bootstrap_servers": kafka, "kafka_input_topic": f"in-{name}", "kafka_group_id": f"group-{name}",
            "kafka_dead_letter_topic": f"dead-{name}", "embedding_service_url": service_url,
            "flink_rest_url": cluster[1],
        }
    )  # fmt: skip


@pytest.fixture
def prepared(world):
    kafka.ensure_topics(world)
    store.prepare(world, embedding.read_space(world))
    return world


def states(settings, **changes):
    findings = examine(settings.model_copy(update=changes))
    assert [finding.check for finding in findings] == [check.name for check in CHECKS]
    return {finding.check: finding for finding in findings}


def wrong(findings):
    return {name for name, finding in findings.items() if finding.state in ("FAIL", "warn")}


def test_before_the_first_message_all_is_well(world):
    found = states(world)
    assert wrong(found) == set()
    for name in ("database.table", "broker.input_topic", "broker.dead_letter_topic"):
        assert "created by submit" in found[name].fact
    assert kafka.positions(world) == []


def test_beside_a_running_job_all_is_well(prepared):
    kafka.produce(prepared, prepared.kafka_input_topic, [Outgoing(b"{}")])
    found = states(prepared, pgvector_dimension=384)
    assert wrong(found) == set()
    assert {name for name, finding in found.items() if finding.state == "skipped"} == {"clock.broker"}


def test_a_connector_that_cluster_and_client_have_stays_where_it_is(prepared, tmp_path, monkeypatch):
    for jar in ("flink-dist-2.3.0.jar", *(jar.path(tmp_path).name for jar in locked_jars("flink"))):
        (tmp_path / jar).touch()
    monkeypatch.setenv("FLINK_LIB_DIR", str(tmp_path))
    assert "stands in the class path" in states(prepared)["flink.connector"].fact


def test_each_part_that_is_away_leaves_the_others_checked(prepared, monkeypatch):
    monkeypatch.setattr(kafka.client, "TIMEOUT", 2.0)
    nowhere = "http://127.0.0.1:1"
    found = states(prepared, embedding_service_url=nowhere)
    assert wrong(found) == {"service.reachable"}
    assert found["database.space"].state == "skipped"
    assert "set EMBEDDING_SERVICE_URL" in str(found["service.reachable"])
    found = states(prepared, pgvector_port=1)
    assert wrong(found) == {"database.reachable"}
    assert "no PostgreSQL answers" in str(found["database.reachable"])
    assert wrong(states(prepared, flink_rest_url=nowhere)) == {"flink.reachable"}
    assert wrong(states(prepared, kafka_bootstrap_servers="127.0.0.1:1")) == {"broker.reachable"}


def test_who_is_not_let_in_is_told_why(prepared):
    found = states(prepared, pgvector_db="no_such")
    assert "has no database no_such" in found["database.reachable"].fact
    found = states(prepared, pgvector_user="nobody_such")
    assert "does not let user nobody_such in" in found["database.reachable"].fact


def test_a_service_that_does_not_fit(prepared):
    assert wrong(states(prepared, pgvector_dimension=3)) == {"service.dimension"}
    with store.connect(prepared) as connection:
        connection.execute("UPDATE text_message_embeddings_space SET model_revision = 'other'")
    assert wrong(states(prepared)) == {"database.space"}


def test_a_model_of_the_hub_is_pinned_or_a_warning(prepared, monkeypatch):
    commit = "a" * 40
    for revision, verdict in (("main", "warn"), ("v1", "warn"), (commit, "ok")):
        monkeypatch.setattr(embedding, "read_origin", lambda _, revision=revision: Origin(commit, revision))
        found = states(prepared)["service.pinned"]
        assert found.state == verdict
        assert found.remedy in (None, f"set EMBEDDING_MODEL_REVISION={commit} where the service runs")
    old = json.dumps({"old": commit})
    with store.connect(prepared) as connection:
        connection.execute("UPDATE text_message_embeddings_space SET model_revision = 'old', hub_commits = %s", [old])
    assert f"EMBEDDING_MODEL_REVISION={commit}" in states(prepared)["database.space"].remedy


def test_an_index_that_is_invalid(prepared):
    assert states(prepared)["database.index"].fact == "none"
    with store.connect(prepared) as connection:
        connection.execute(
            "CREATE INDEX mine ON text_message_embeddings USING hnsw ((embedding::vector(384)) vector_cosine_ops)"
        )
        assert "mine is valid" in states(prepared)["database.index"].fact
        connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'mine'::regclass")
    found = states(prepared)["database.index"]
    assert (found.state, found.remedy) == ("warn", "embedstream index build")


def test_an_index_of_another_type_than_is_asked_for(prepared):
    build(prepared)
    found = states(prepared, index_type="bit")["database.index"]
    assert found.state == "warn"
    assert "holds vector, INDEX_TYPE asks for bit" in found.fact
    build(prepared.model_copy(update={"index_type": "bit"}))
    assert states(prepared, index_type="bit")["database.index"].state == "ok"


def test_a_pgvector_that_may_damage_an_index(prepared):
    with store.connect(prepared) as connection:
        connection.execute("UPDATE pg_extension SET extversion = '0.8.3' WHERE extname = 'vector'")
    found = states(prepared)["database.extension"]
    assert found.state == "warn"
    assert "REINDEX" in found.remedy


def test_a_foreign_table(world):
    with store.connect(world) as connection:
        connection.execute("CREATE TABLE text_message_embeddings (id int)")
    assert "not one of embedstream's" in states(world)["database.table"].fact


def test_a_read_only_database(prepared):
    with store.connect(prepared) as connection:
        name = Identifier(prepared.pgvector_db)
        connection.execute(SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    assert wrong(states(prepared)) == {"database.writable"}


@pytest.fixture
def role(postgres):
    name = f"role_{uuid.uuid4().hex[:8]}"
    with postgres.connect() as connection:
        connection.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(name)))
    return name


def test_rights_that_are_missing_before_the_first_submit(world, role):
    found = states(world, pgvector_user=role)
    assert {"database.extension", "database.rights"} >= wrong(found) >= {"database.rights"}
    assert "CREATE on the schema" in found["database.rights"].fact


def test_rights_that_are_missing_on_the_table(prepared, role):
    with store.connect(prepared) as connection:
        names = [Identifier(role)]
        connection.execute(SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(*names))
        found = states(prepared, pgvector_user=role)["database.rights"]
        assert found.state == "FAIL"
        assert 'INSERT on "text_message_embeddings"' in found.fact
        assert "SELECT" not in found.fact
        connection.execute(SQL("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}").format(*names))
    assert states(prepared, pgvector_user=role)["database.rights"].state == "ok"


def create_topic(settings, topic, partitions=2, **config):
    admin = AdminClient(kafka.client_config(settings))
    names = {name.replace("_", "."): value for name, value in config.items()}
    admin.create_topics([NewTopic(topic, partitions, 1, config=names)])[topic].result(10)
    return admin


def test_topics_that_do_not_fit(world):
    create_topic(world, world.kafka_input_topic, partitions=1, message_timestamp_type="LogAppendTime")
    create_topic(world, world.kafka_dead_letter_topic, cleanup_policy="compact", retention_ms="-1")
    found = states(world)
    assert wrong(found) == {
        f"broker.{what}" for what in ("partitions", "timestamps", "dead_letter_size", "dead_letter_cleanup")
    }
    assert found["broker.partitions"].state == "warn"
    assert found["broker.dead_letter_size"].state == found["broker.dead_letter_cleanup"].state == "FAIL"


def test_dead_letters_that_do_not_stay(world):
    create_topic(world, world.kafka_dead_letter_topic, max_message_bytes="20000000")
    assert wrong(states(world)) == {"broker.dead_letter_size", "broker.dead_letter_cleanup"}


def test_records_that_expired_unread(prepared):
    topic, group = prepared.kafka_input_topic, prepared.kafka_group_id
    kafka.produce(prepared, topic, [Outgoing(b"{}", partition=0)] * 5)
    with Consumer({**kafka.client_config(prepared), "group.id": group}) as consumer:
        consumer.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    admin = AdminClient(kafka.client_config(prepared))
    place = TopicPartition(topic, 0, 3)
    admin.delete_records([place])[place].result(10)
    found = states(prepared)["broker.unread"]
    assert (found.state, found.fact.partition(" ")[0]) == ("FAIL", "2")


def test_records_behind_an_open_transaction(prepared):
    """Young ones are said, those that wait for longer than HEALTH_MAX_AGE_SECONDS are a failure."""
    topic = prepared.kafka_input_topic
    producer = Producer({**kafka.client_config(prepared), "transactional.id": topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"{}", partition=0, timestamp=int(time.time() * 1000) - 100_000)
    producer.flush()
    assert wrong(states(prepared)) == {"broker.transactions"}
    found = states(prepared)["broker.transactions"]
    assert found.state == "FAIL"
    assert "1 offsets of partition 0 wait behind a transaction that has been open for" in found.fact
    assert f"describe-producers --topic {topic} --partition 0" in found.remedy
    found = states(prepared, health_max_age_seconds=3600.0)["broker.transactions"]
    assert (found.state, found.fact.partition(",")[0]) == ("ok", "1 offsets wait behind open transactions")
    producer.abort_transaction(30)
    deadline = time.monotonic() + 20
    while kafka.look(prepared).behind_transaction and time.monotonic() < deadline:
        time.sleep(0.1)
    assert wrong(states(prepared)) == set()


def test_an_offset_beyond_the_end(prepared):
    topic = prepared.kafka_input_topic
    with Consumer({**kafka.client_config(prepared), "group.id": prepared.kafka_group_id}) as consumer:
        consumer.commit(offsets=[TopicPartition(topic, 1, 10_000_000)], asynchronous=False)
    found = states(prepared)
    assert wrong(found) == {"broker.offsets"}
    assert "stands at offset 10,000,000 of partition 1, beyond its end 0" in found["broker.offsets"].fact


def test_a_stranger_in_the_group(prepared):
    with Consumer(
        {**kafka.client_config(prepared), "group.id": prepared.kafka_group_id, "client.id": "stranger"}
    ) as consumer:
        consumer.subscribe([prepared.kafka_input_topic])
        deadline = time.monotonic() + 30
        while not consumer.assignment() and time.monotonic() < deadline:
            consumer.poll(0.2)
        found = states(prepared)
    assert wrong(found) == {"broker.group"}
    assert "stranger at 127.0.0.1" in found["broker.group"].fact


PROGRESS = {
    "another topic": ({"topic_id": "AAAAAAAAAAAAAAAAAAAAAA"}, "broker.identity", "FAIL", "--adopt-topic"),
    "another cluster": ({"cluster_id": "elsewhere"}, "broker.identity", "FAIL", "--adopt-topic"),
    "a table beyond the end": ({"stands": 9}, "broker.offsets", "FAIL", "--replace"),
    "late records": ({"late": 3}, "broker.timestamps", "warn", "VERSION_BY=record"),
}


@pytest.mark.parametrize("name", PROGRESS)
def test_what_the_progress_of_the_table_says(prepared, name):
    facts, check, state, remedy = PROGRESS[name]
    record_progress(prepared, 0, **facts)
    found = states(prepared)
    assert wrong(found) == {check}
    assert found[check].state == state
    assert remedy in found[check].remedy


def test_records_of_which_the_table_knows_are_not_unread(prepared):
    kafka.produce(prepared, prepared.kafka_input_topic, [Outgoing(b"{}", partition=0)] * 5)
    record_progress(prepared, 0, stands=4)
    assert "1 are unread" in states(prepared)["broker.unread"].fact


def test_a_record_that_has_waited_for_longer_than_is_healthy(prepared):
    old = int(time.time() * 1000) - 600_000
    kafka.produce(prepared, prepared.kafka_input_topic, [Outgoing(b"{}", timestamp=old, partition=0)])
    found = states(prepared)["broker.unread"]
    assert (found.state, found.fact) == ("warn", "1 are unread, the oldest has waited for 10 minutes")


def test_a_lag_that_nears_the_retention(world):
    hour = 60 * 60 * 1000
    create_topic(world, world.kafka_input_topic, retention_ms=str(hour))
    now = int(time.time() * 1000)
    kafka.produce(world, world.kafka_input_topic, [Outgoing(b"{}", timestamp=now - hour * 9 // 10)])
    found = states(world)["broker.retention"]
    assert (found.state, found.fact) == (
        "warn", "the oldest unread record is 54 minutes old, records are kept for 60 minutes"
    )  # fmt: skip


def test_a_cluster_that_does_not_fit(prepared, cluster):
    answers, _ = cluster
    assert wrong(states(prepared, flink_parallelism=3)) == {"flink.slots", "broker.partitions"}
    answers["/overview"]["flink-version"] = "1.20.1"
    answers["/jobs/overview"]["jobs"] *= 2
    assert wrong(states(prepared)) == {"flink.version", "flink.job"}
    answers["/jobs/overview"]["jobs"] = []
    found = states(prepared)
    assert (found["flink.slots"].state, found["flink.job"].state) == ("FAIL", "warn")
    assert "not known" in found["flink.python"].fact
    answers["/jobmanager/environment"]["classpath"] = ["/opt/flink/lib/flink-dist-2.3.0.jar"]
    shipped = states(prepared)["flink.connector"].fact
    assert shipped.startswith("submit ships ")
    assert "flink-sql-connector-kafka-5.0.0-2.2" in shipped


def test_slots_that_the_running_job_holds_are_free_for_the_next(prepared, cluster):
    answers, _ = cluster
    answers["/overview"]["slots-total"] = 4
    assert states(prepared)["flink.slots"].state == "ok"
    found = states(prepared, flink_parallelism=3)["flink.slots"]
    assert (found.state, found.fact) == (
        "FAIL", "of 4 slots 0 are free, but FLINK_PARALLELISM is 3, and the running job holds 2"
    )  # fmt: skip


def test_a_cluster_that_grows_has_slots_enough(prepared, cluster):
    answers, _ = cluster
    answers["/overview"] |= {"taskmanagers": 0, "slots-total": 0}
    answers["/jobs/overview"]["jobs"] = []
    assert states(prepared)["flink.slots"].state == "FAIL"
    answers["/jobmanager/config"] = [{"key": "yarn.application.id", "value": "application_1"}]
    assert states(prepared)["flink.slots"].state == "ok"


def test_a_client_that_cannot_submit(prepared, tmp_path):
    found = states(prepared, flink_home=tmp_path)
    assert "set FLINK_HOME" in found["flink.client"].fact
    assert found["flink.connector"].state == "skipped"


def test_a_cluster_without_memory_for_the_longest_texts(prepared, cluster):
    answers, _ = cluster
    assert states(prepared)["flink.memory"].state == "ok"
    finding = states(prepared, max_text_bytes=8 * 2**20)["flink.memory"]
    assert finding.state == "warn"
    assert "355 MiB" in finding.fact
    answers["/taskmanagers"]["taskmanagers"][0]["slotsNumber"] = 16
    assert states(prepared)["flink.memory"].state == "FAIL"
    answers["/taskmanagers"]["taskmanagers"][0]["slotsNumber"] = 0
    assert states(prepared)["flink.memory"].state == "skipped"


def test_a_job_that_restarts(prepared, cluster):
    cluster[0]["/jobs/j1"]["state"] = "RESTARTING"
    assert "ConfigException: The specified value of default.api.timeout.ms" in states(prepared)["flink.job"].fact


def test_a_bad_table_name_is_a_bad_setting(world):
    with pytest.raises(ConfigError, match="PGVECTOR_TABLE"):
        examine(world.model_copy(update={"pgvector_table": "a.b.c"}))
