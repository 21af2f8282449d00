import json
import sys
import zipfile

import httpx
import pytest
from pydantic import SecretStr

from embedstream.errors import ConfigError
from embedstream.flink import Cluster, Job, job_parameters, recorded_names, settings_of_parameters, shipping, submission
from embedstream.flink.forwarder import KEY_HEADER, forwarder
from embedstream.jars import Jar, locked_jars
from embedstream.settings import Settings, child_environment, load_settings
from support.flink import recorded

JARS = [jar.path(shipping.Path()).name for jar in locked_jars("flink")]
CONNECTOR = next(name for name in JARS if "connector" in name)
FLINK_RUN = """#!{python}
import json, os, sys, zipfile
jar = sys.argv[sys.argv.index("--jarfile") + 1] if "--jarfile" in sys.argv else None
names = zipfile.ZipFile(jar).namelist() if jar else []
json.dump({{"argv": sys.argv[1:], "env": dict(os.environ), "jars": names}}, open({seen!r}, "w"))
print(open({output!r}).read())
sys.exit({code})
"""


class Client:
    """A Flink distribution whose `flink run` says what a real one said, and notes how it was called."""

    def __init__(self, directory):
        self.home = directory
        for name in ("bin", "lib"):
            (directory / name).mkdir()
        for name in JARS:
            (directory / "lib" / name).touch()
        self.seen = directory / "seen.json"
        self.says("")

    def says(self, output, code=0):
        (self.home / "output").write_text(output)
        program = self.home / "bin" / "flink"
        program.write_text(
            FLINK_RUN.format(python=sys.executable, seen=str(self.seen), output=str(self.home / "output"), code=code)
        )
        program.chmod(0o755)

    def call(self):
        return json.loads(self.seen.read_text())


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.delenv("FLINK_LIB_DIR", raising=False)
    client = Client(tmp_path)
    monkeypatch.setattr(Cluster, "class_path", lambda self: JARS)
    return client


def settings_for(client, **changes):
    return load_settings(flink_home=client.home, flink_rest_url="http://jobmanager:8081", **changes)


def test_the_command(client):
    submission.run(settings_for(client, flink_python="/opt/python"))
    argv = client.call()["argv"]
    assert argv[:5] == ["run", "--detached", "--target=remote", "-Drest.address=jobmanager", "-Drest.port=8081"]
    assert f"--pyClientExecutable={sys.executable}" in argv
    assert "--pyExecutable=/opt/python" in argv
    assert "--jarfile" not in argv
    assert argv[-1].endswith("job/__main__.py")


def test_planning_submits_nothing_but_looks_whether_the_way_is_free(client, monkeypatch):
    sizes = []
    monkeypatch.setattr(Cluster, "try_submission", lambda self, size: sizes.append(size))
    (client.home / "opt").mkdir()
    (client.home / "opt" / "flink-python-2.3.0.jar").write_bytes(bytes(1000))
    submission.plan(settings_for(client))
    assert client.call()["argv"][-1] == "--dry-run"
    assert sizes == [1000]


@pytest.mark.parametrize(
    ("output", "cause"),
    [("run-connector.txt", "Could not find any factory"), ("run-client.txt", 'Cannot run program "/no/such/python"')],
)
def test_a_failure_says_why(client, output, cause):
    client.says(recorded(output), code=1)
    with pytest.raises(ConfigError, match=f"^flink run ended with 1: .*{cause}"):
        submission.run(settings_for(client))


def test_a_home_without_a_distribution(tmp_path):
    with pytest.raises(ConfigError, match="set FLINK_HOME"):
        submission.run(load_settings(flink_home=tmp_path))


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A lock of two jars, which are in the cache."""
    jars = [Jar("g", name, "1", "0" * 64) for name in ("flink-sql-connector-kafka", "codec")]
    for jar in jars:
        path = jar.path(tmp_path / "cache" / "jars")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(jar.artifact)
    monkeypatch.setattr(shipping.jars, "locked_jars", lambda section: jars)
    monkeypatch.setattr(shipping.jars, "is_sound", lambda jar, path: path.is_file())
    return jars


def test_what_the_cluster_lacks_goes_along(client, cached, tmp_path, monkeypatch):
    monkeypatch.setattr(Cluster, "class_path", lambda self: ["flink-dist-2.3.0.jar"])
    submission.run(settings_for(client, embedstream_cache_dir=tmp_path / "cache"))
    assert client.call()["jars"] == ["lib/flink-sql-connector-kafka-1.jar", "lib/codec-1.jar"]


@pytest.mark.parametrize(
    ("cluster", "client_side", "shipped"),
    [
        (["flink-sql-connector-kafka-1.jar", "codec-1.jar"], ["flink-sql-connector-kafka-2.jar", "codec-1.jar"], False),
        (["flink-sql-connector-kafka-1.jar", "codec-1.jar"], ["flink-dist-2.3.0.jar"], True),
        (["flink-sql-connector-kafka-1.jar"], ["flink-sql-connector-kafka-1.jar", "codec-1.jar"], True),
        (["flink-connector-kafka-1.jar", "codec-1.jar"], ["flink-sql-connector-kafka-1.jar", "codec-1.jar"], True),
    ],
)
def test_all_jars_go_along_or_none(cached, cluster, client_side, shipped):
    assert shipping.lacking(cluster, client_side) == (cached if shipped else [])


def test_the_bundle_has_them_where_flink_looks(cached, tmp_path):
    path = shipping.bundle(cached, load_settings(embedstream_cache_dir=tmp_path / "cache"), tmp_path)
    assert zipfile.ZipFile(path).read("lib/codec-1.jar") == b"codec"


def secrets_and_all():
    return load_settings(
        kafka_sasl_username="u-s-e-r", kafka_sasl_password="s3cret", pgvector_password="s3cret",
        embedding_api_key="s3cret", flink_rest_authorization="s3cret", kafka_input_topic="a:b,c 'd' \"e\"",
        flink_python="/opt/python", pgvector_dimension=5,
    )  # fmt: skip


def test_no_secret_is_carried():
    carried = job_parameters(secrets_and_all())
    assert not any(secret in text for text in map(str, carried.items()) for secret in ("s3cret", "u-s-e-r", "PASSWORD"))
    assert {"FLINK_PYTHON": "/opt/python", "PGVECTOR_DIMENSION": "5"}.items() <= carried.items()
    secret = {name for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)}
    assert secret
    assert not secret & set(recorded_names())


HIDDEN_BY_FLINK = (
    "password", "secret", "fs.azure.account.key", "apikey", "api-key", "auth-params", "service-key", "token",
    "basic-auth", "jaas.config", "http-headers",
)  # fmt: skip


def test_flink_tells_the_value_of_all_that_a_job_carries():
    """It shows stars for others, as flink-core 2.3 has it in GlobalConfiguration."""
    assert [name for name in recorded_names() if any(word in name for word in HIDDEN_BY_FLINK)] == []


def test_settings_come_back_with_the_secrets_of_the_present():
    submitted = secrets_and_all()
    present = load_settings(
        pgvector_password="newer", kafka_ssl_ca_location="/newer.pem", kafka_input_topic="newer", log_level="DEBUG"
    )
    found = settings_of_parameters(job_parameters(submitted), present)
    assert {name: getattr(found, name) for name in recorded_names()} == {
        name: getattr(submitted, name) for name in recorded_names()
    }
    assert found.pgvector_password == SecretStr("newer")
    assert found.log_level == "DEBUG"


def test_a_child_does_not_get_what_is_not_set(monkeypatch):
    settings = load_settings()
    monkeypatch.setenv("KAFKA_SSL_CA_LOCATION", "/of-another.pem")
    monkeypatch.setenv("PGVECTOR_PASSWORD_FILE", "/of-another")
    monkeypatch.setenv("AN_OTHER_FILE", "kept")
    environment = child_environment(settings)
    assert "KAFKA_SSL_CA_LOCATION" not in environment
    assert "PGVECTOR_PASSWORD_FILE" not in environment
    assert environment["AN_OTHER_FILE"] == "kept"


def answering(answer, status=200):
    return Cluster(load_settings(), httpx.MockTransport(lambda _: httpx.Response(status, json=answer)))


def test_the_settings_that_a_job_carries():
    answer = recorded("config.json")
    answer["execution-config"]["user-config"]["of.somebody.else"] = "x"
    carried = answering(answer).settings_of(Job("j", "n", "RUNNING", 0))
    assert carried["KAFKA_INPUT_TOPIC"] == "text-messages"
    assert "of.somebody.else" not in carried


def test_the_class_path_has_names():
    assert CONNECTOR in answering(recorded("environment.json")).class_path()


def test_who_is_not_let_in():
    with pytest.raises(ConfigError, match=r"HTTP 401.*FLINK_REST_AUTHORIZATION"):
        answering({}, 401).overview()


def test_a_job_that_flink_itself_refuses_would_have_come_through():
    answering(recorded("no-job.json"), 400).try_submission(10)


@pytest.mark.parametrize(("answer", "status"), [("<html>", 413), ({}, 405), ({"errors": []}, 404), ({}, 200)])
def test_a_proxy_that_lets_no_job_through(answer, status):
    with pytest.raises(ConfigError, match=f"takes no job .HTTP {status} to POST /jobs with 3 MiB"):
        answering(answer, status).try_submission(3 * 2**20)


@pytest.mark.parametrize(
    ("url", "needed"),
    [
        ("http://jobmanager:8081", False), ("http://jobmanager", False), ("https://jobmanager", True),
        ("http://proxy/flink", True),
    ],
)  # fmt: skip
def test_when_flink_run_needs_help(url, needed):
    assert submission.needs_forwarder(load_settings(flink_rest_url=url)) is needed
    assert submission.needs_forwarder(load_settings(flink_rest_url=url, flink_rest_authorization="Bearer x"))


def test_the_forwarder_is_told_to_flink_run_and_gone_afterwards(client):
    submission.run(settings_for(client).model_copy(update={"flink_rest_url": "https://proxy/flink"}))
    call = client.call()
    options = dict(option[2:].split("=") for option in call["argv"] if option.startswith("-D"))
    assert options["rest.address"] == "127.0.0.1"
    assert options["security.ssl.rest.enabled"] == "false"
    assert call["env"]["FLINK_REST_CLIENT_HEADERS"].startswith(f"{KEY_HEADER}:")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{options['rest.port']}/overview", trust_env=False)


def test_nobody_but_flink_run_may_use_the_forwarder():
    with forwarder(load_settings(flink_rest_url="http://127.0.0.1:1/flink")) as (host, port, key):
        url = f"http://{host}:{port}/overview"
        assert httpx.get(url, trust_env=False).status_code == 403
        assert httpx.get(url, headers={KEY_HEADER: key}, trust_env=False).status_code == 502
