"""The Docker stack, promise by promise; the tests run in the order in which they stand here."""

import re

import httpx
import pytest

pytestmark = pytest.mark.timeout(1200)

ROWS = "SELECT id, model_name, embedding[1:5] FROM text_message_embeddings LIMIT 5;"


def test_a_line_typed_into_the_console_producer_is_a_row_within_seconds(compose, eventually):
    producer = ("kafka-console-producer", "--bootstrap-server", "kafka:29092", "--topic", "text-messages")
    compose("exec", "-T", "kafka", *producer, stdin='{"id": "msg-1", "text": "Flink streaming for embeddings"}\n')
    eventually(lambda: compose.sql("SELECT count(*) FROM text_message_embeddings WHERE id = 'msg-1'") == "1", 15)
    shown = compose.output(
        "exec", "-T", "pgvector-postgres", "psql", "-U", "postgres", "-d", "embeddings_db", "-c", ROWS
    )
    assert re.search(r"msg-1 +\| sentence-transformers/all-MiniLM-L6-v2 +\| \{(-?[\d.e-]+,){4}-?[\d.e-]+\}", shown)


@pytest.mark.parametrize("tool", ["kafka-topics", "kafka-consumer-groups", "kafka-console-consumer"])
def test_kafka_s_tools_are_on_the_path(compose, tool):
    done = compose("exec", "-T", "kafka", tool, "--help", check=False)
    assert "--bootstrap-server" in done.stdout + done.stderr


def test_the_end_to_end_script_holds(compose):
    done = compose.end_to_end()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "e2e_test: everything held"


@pytest.mark.parametrize("arguments", [["--timeout"], ["--timeout", "soon"], ["--what"]])
def test_the_script_refuses_what_it_does_not_know(compose, arguments):
    assert compose.end_to_end(*arguments).returncode == 2


@pytest.mark.parametrize(
    ("port", "path", "words"),
    [
        ("FLINK_HOST_PORT", "/", "Apache Flink"),
        ("KAFKA_UI_HOST_PORT", "/", "Kafka"),
        ("PGADMIN_HOST_PORT", "/login", "pgAdmin"),
        ("EMBEDDING_SERVICE_HOST_PORT", "/health", "all-MiniLM-L6-v2"),
        ("CONSOLE_HOST_PORT", "/", "Overview"),
    ],
)
def test_the_pages_answer_on_their_host_ports(compose, port, path, words):
    answer = httpx.get(compose.url(port, path), follow_redirects=True, timeout=30)
    assert answer.status_code == 200
    assert words in answer.text


def test_pgadmin_knows_the_server_and_asks_for_no_password(compose):
    with httpx.Client(base_url=compose.url("PGADMIN_HOST_PORT"), follow_redirects=True, timeout=30) as http:
        token = re.search(r'"csrfToken": "([^"]+)"', http.get("/login").text)[1]
        form = {"email": "admin@example.com", "password": "admin", "csrf_token": token, "internal_button": "Login"}
        assert http.post("/authenticate/login", data=form).status_code == 200
        script = http.get("/browser/js/utils.js").text
        http.headers["X-pgA-CSRFToken"] = re.search(r"csrf_token'\] = '([^']+)'", script)[1]
        servers = http.get("/browser/server/nodes/1/").json()["result"]
        assert [server["label"] for server in servers] == ["embedstream"]
        answer = http.post(f"/browser/server/connect/1/{servers[0]['_id']}")
    assert answer.status_code == 200, answer.text
    assert answer.json()["success"] == 1


def test_no_secret_is_in_flink_s_configuration_or_in_a_log(compose):
    compose.set(PGVECTOR_PASSWORD="postgres", KAFKA_SASL_PASSWORD="nobody-may-see-this")
    compose.up()
    (job,) = compose.jobs().values()
    shown = [
        compose.flink(path)
        for path in ("/jobmanager/config", "/jobmanager/environment", f"/jobs/{job}/config", f"/jobs/{job}/plan")
    ]
    logs = [compose.logs(service) for service in ("flink-jobmanager", "flink-taskmanager", "flink-submit")]
    assert "nobody-may-see-this" not in str(shown) + "".join(logs)
    compose.override.unlink()
    compose.up()


@pytest.mark.parametrize(
    ("part", "how"),
    [
        ("kafka", "pause"),
        ("embedding-service", "pause"),
        ("pgvector-postgres", "pause"),
        ("flink-jobmanager", "pause"),
        ("flink-taskmanager", "pause"),
        ("flink-submit", "pause"),
        ("kafka-ui", "stop"),
        ("pgadmin", "stop"),
    ],
)
def test_the_script_fails_when_a_part_is_broken(compose, eventually, part, how):
    compose(how, part)
    try:
        done = compose.end_to_end("--timeout", "5", "--start-timeout", "1")
    finally:
        compose({"pause": "unpause", "stop": "start"}[how], part)
    assert done.returncode == 1, done.stdout
    assert "FAIL" in done.stdout
    eventually(compose.is_healthy, 120)


def test_a_job_that_disappears_is_submitted_again(compose, eventually):
    (before,) = compose.jobs().values()
    compose("restart", "flink-jobmanager")
    eventually(lambda: before not in compose.jobs().values() and compose.jobs(), 120)
    eventually(compose.is_healthy, 120)
    assert compose.end_to_end().returncode == 0
    assert "submitting it again" in compose.logs("flink-submit")


def test_a_submitter_that_was_killed_starts_no_second_job(compose):
    before = compose.jobs()
    compose("kill", "flink-submit")
    compose.up()
    assert compose.jobs() == before
    assert "runs already" in compose.logs("flink-submit")


def test_stop_takes_a_savepoint_and_nothing_is_read_again(compose, eventually):
    """A malformed message that is read twice would be a dead letter twice."""
    producer = ("kafka-console-producer", "--bootstrap-server", "kafka:29092", "--topic", "text-messages")
    dead = compose.status()["dead_letters"] + 5
    compose("exec", "-T", "kafka", *producer, stdin='{"id": "bad", "text": 1}\n' * 5)
    # They are flushed after the table's progress, and Flink commits up to ten seconds later.
    eventually(lambda: compose.status()["dead_letters"] == dead)
    eventually(lambda: all(each["committed"] == each["end"] for each in compose.status()["partitions"]))
    compose("stop")
    assert re.search(r"stopped job embedstream with savepoint \S+", compose.logs("flink-submit"))
    compose.up()
    compose.embedstream("send", stdin='{"id": "good", "text": "after the stop"}\n')
    eventually(lambda: compose.status()["lag"] == 0)
    assert compose.status()["dead_letters"] == dead


def test_data_survives_down_and_up(compose, eventually):
    before = compose.status()
    compose("down")
    compose.up()
    eventually(lambda: compose.status()["lag"] == 0)
    after = compose.status()
    assert [after[name] for name in ("messages", "rows", "deleted", "dead_letters", "lag")] == [
        before[name] for name in ("messages", "rows", "deleted", "dead_letters")
    ] + [0]


def test_down_with_volumes_removes_everything(compose):
    compose("down", "--volumes")
    compose.up()
    after = compose.status()
    assert (after["messages"], after["rows"], after["dead_letters"]) == (0, 0, 0)


def test_an_override_takes_effect(compose, eventually):
    compose.sql("CREATE ROLE writer LOGIN PASSWORD 'w'; GRANT ALL ON DATABASE embeddings_db TO writer; "
                "GRANT ALL ON SCHEMA public TO writer; CREATE EXTENSION IF NOT EXISTS vector")  # fmt: skip
    compose.set(
        KAFKA_INPUT_TOPIC="other-messages", KAFKA_DEAD_LETTER_TOPIC="other-dead", KAFKA_GROUP_ID="other-group",
        PGVECTOR_TABLE="other_rows", PGVECTOR_USER="writer", PGVECTOR_PASSWORD="w", FLINK_PARALLELISM="3",
        FLINK_CHECKPOINT_INTERVAL_MS="3000", PGVECTOR_DIMENSION="384",
    )  # fmt: skip
    compose.up()
    compose.embedstream("send", stdin='{"id": "a", "text": "to another table"}\n')
    eventually(lambda: compose.sql("SELECT text FROM other_rows") == "to another table")
    assert compose.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'other_rows'") == "writer"
    (job,) = compose.jobs().values()
    assert {vertex["parallelism"] for vertex in compose.flink(f"/jobs/{job}")["vertices"]} == {3}
    assert compose.flink(f"/jobs/{job}/checkpoints/config")["interval"] == 3000
    groups = ("kafka-consumer-groups", "--bootstrap-server", "kafka:29092", "--list")
    eventually(lambda: "other-group" in compose.output("exec", "-T", "kafka", *groups).split(), 20)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"PGVECTOR_DIMENSION": "512"}, "PGVECTOR_DIMENSION is 512, but the service's vectors have 384"),
        ({"EMBEDDING_SERVICE_URL": "http://embedding-service:1"}, "no embedding service answers at"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "kafka:1"}, "no Kafka answers at kafka:1"),
        ({"PGVECTOR_PASSWORD": "wrong"}, "password authentication failed"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_is_one_clear_line(compose, eventually, environment, words):
    compose("stop", "flink-submit")
    compose.set(**environment)
    compose("up", "--detach", "--no-deps", "flink-submit")
    line = eventually(lambda: next((line for line in compose.logs("flink-submit").splitlines() if words in line), None))
    assert line.startswith("waiting: ")
    assert compose.jobs() == {}


def test_a_task_manager_s_own_environment_wins_with_a_warning(compose, eventually):
    compose.override.write_text('{"services": {"flink-taskmanager": {"environment": {"PGVECTOR_TABLE": "elsewhere"}}}}')
    compose.up()
    compose.embedstream("send", stdin='{"id": "e", "text": "by the worker\'s own word"}\n')
    eventually(lambda: compose.sql("SELECT to_regclass('elsewhere') IS NOT NULL") == "t")
    eventually(lambda: compose.sql("SELECT count(*) FROM elsewhere WHERE id = 'e'") == "1")
    logs = compose.logs("flink-taskmanager")
    assert "PGVECTOR_TABLE is elsewhere here, but was submitted as text_message_embeddings" in logs


def test_it_scales(compose):
    compose.override.unlink(missing_ok=True)
    first = int(compose.ports["EMBEDDING_SERVICE_HOST_PORT"])
    compose.up(
        "--scale", "flink-taskmanager=3", "--scale", "embedding-service=2",
        env={"EMBEDDING_SERVICE_HOST_PORT": f"{first}-{first + 1}", "FLINK_PARALLELISM": "4"},
    )  # fmt: skip
    overview = compose.flink("/overview")
    assert (overview["taskmanagers"], overview["slots-total"]) == (3, 12)
    assert compose.end_to_end("--timeout", "90").returncode == 0
