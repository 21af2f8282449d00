"""From a pipeline file to the settings of a command, and what `embedstream pipelines` prints."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from embedstream.cli import app
from embedstream.decode.message import Record
from embedstream.decode.spec import Decoding
from embedstream.errors import ConfigError
from embedstream.pipelines import cases
from embedstream.pipelines.choice import DECIDED, pipeline_settings, settings_of
from embedstream.pipelines.model import Case, Pipeline
from embedstream.pipelines.problem import BadFile
from embedstream.settings import Settings, load_settings

ONE = "version: 1\npipelines:\n  messages: {topic: text-messages, table: text_message_embeddings}\n"
SEVERAL = (
    ONE
    + """
  articles:
    topic: shop.articles
    format: {key: registry, value: {protobuf: a.proto, message: a.B}}
    registry: {url: "http://r", user: u, password_file: secret}
    envelope: debezium
    text: [value.title, value.body]
    table: articles
    parallelism: 3
"""
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text, path=Path("embedstream.yaml")):
    path.write_text(text)


def test_without_a_file_the_variables_describe_the_pipeline(monkeypatch):
    monkeypatch.setenv("KAFKA_INPUT_TOPIC", "notes")
    monkeypatch.setenv("FLINK_JOB_NAME", "notes")
    assert pipeline_settings() == pipeline_settings("notes") == load_settings()
    with pytest.raises(
        ConfigError, match=r"^--pipeline other: there is no embedstream.yaml here: set EMBEDSTREAM_FILE"
    ):
        pipeline_settings("other")


def test_one_pipeline_needs_no_name():
    write(ONE)
    found = pipeline_settings()
    assert found == pipeline_settings("messages")
    assert found == load_settings(flink_job_name="embedstream-messages", kafka_group_id="embedstream-messages")


def test_of_several_the_name_is_asked_for():
    write(SEVERAL)
    with pytest.raises(ConfigError, match=r"several pipelines: say --pipeline, with one of messages, articles$"):
        pipeline_settings()
    with pytest.raises(
        ConfigError, match=r"^--pipeline articel: embedstream.yaml has no such pipeline, but messages, a"
    ):
        pipeline_settings("articel")


def test_a_pipeline_decides_topic_table_group_job_and_order(here):
    write(SEVERAL)
    found = pipeline_settings("articles")
    assert (found.kafka_input_topic, found.kafka_dead_letter_topic) == ("shop.articles", "shop.articles-dead-letters")
    assert (found.pgvector_table, found.kafka_group_id) == ("articles", "embedstream-articles")
    assert (found.flink_job_name, found.flink_parallelism, found.version_by) == ("embedstream-articles", 3, "record")
    assert found.decoding.text == ("value.title", "value.body")


def test_files_are_found_from_the_file_s_directory(here, monkeypatch):
    (here / "conf").mkdir()
    write(SEVERAL, here / "conf" / "my.yaml")
    monkeypatch.setenv("EMBEDSTREAM_FILE", "conf/my.yaml")
    decoding = pipeline_settings("articles").decoding
    assert decoding.formats.value.protobuf == str(here / "conf" / "a.proto")
    assert decoding.registry.password_file == str(here / "conf" / "secret")


def test_the_default_shape_carries_no_mapping_whatever_its_order():
    def decoding(**facts):
        return settings_of("a", Pipeline(topic="t", table="u", **facts), load_settings())

    assert decoding(version="record").decoding is None
    assert decoding(version="record").version_by == "record"
    assert decoding(format="json").decoding is None
    assert decoding(version="value.version").decoding == Decoding(version="value.version")


@pytest.mark.parametrize("name", DECIDED)
@pytest.mark.parametrize("suffix", ["", "_FILE"])
def test_what_the_file_decides_is_not_said_by_a_variable_too(here, monkeypatch, name, suffix):
    write(ONE)
    default = Settings.model_fields[name].default
    (here / "value").write_text(str(default))
    monkeypatch.setenv(f"{name.upper()}{suffix}", str(here / "value") if suffix else str(default))
    with pytest.raises(ConfigError) as caught:
        pipeline_settings()
    assert str(caught.value).startswith("embedstream.yaml decides")
    assert f"{name.upper()}{suffix}" in str(caught.value)


def test_an_empty_variable_is_none(monkeypatch):
    write(ONE)
    monkeypatch.setenv("KAFKA_INPUT_TOPIC", "")
    assert pipeline_settings().kafka_input_topic == "text-messages"


def test_several_topics_are_refused_for_now():
    pipeline = Pipeline(topic=["a", "b"], table="t")
    with pytest.raises(
        ConfigError, match="several topics of one pipeline are not supported yet: make a pipeline for each"
    ):
        settings_of("p", pipeline, load_settings())


def test_a_mapping_that_no_command_line_takes_is_refused():
    pipeline = Pipeline(topic="t", table="u", metadata={f"field{number}": "value.x" * 100 for number in range(200)})
    with pytest.raises(ConfigError, match="more than 65536 bytes"):
        settings_of("p", pipeline, load_settings())


def run(*arguments):
    return CliRunner().invoke(app, ["pipelines", *arguments])


TESTED = ONE.replace("}\n", ",\n    tests: [{value: {id: a, text: x}, expect: %s}]}\n")


@pytest.mark.parametrize(
    "expect",
    [
        "{}", "{id: a}", "{id: a, text: x, metadata: {}, source: null}", "[{text: x}]",
        "{timestamp: '1970-01-01T01:00:00+01:00'}",
    ],
)  # fmt: skip
def test_what_becomes_of_a_record_is_as_expected(expect):
    write(TESTED % expect)
    assert run("check").output == "messages: ok, 1 test\n"


@pytest.mark.parametrize(
    ("expect", "says"),
    [
        ("{id: b}", '4:52: pipelines.messages.tests[0].expect.id: expected "b", got "a"'),
        ("{metadata: {a: 1}}", 'expect.metadata: expected {"a": 1}, got {}'),
        ("{source: y}", 'expect.source: expected "y", got null'),
        ("{timestamp: '1970-01-02T00:00:00Z'}", 'expected "1970-01-02T00:00:00Z", got "1970-01-01T00:00:00Z"'),
        ("{delete: a}", '4:47: pipelines.messages.tests[0].expect: expected {"delete": "a"}, got {"id": "a", '),
        ("{filtered: true}", 'expected {"filtered": true}, got {"id": "a", '),
        ("{rejected: text_blank}", 'expected {"rejected": "text_blank"}, got {"id": "a", '),
        ("[{id: a}, {id: b}]", 'expect: expected 2 outcomes, got 1 outcome: [{"id": "a", '),
    ],
)
def test_what_is_not_as_expected_is_told_field_by_field(expect, says):
    write(TESTED % expect)
    done = run("check")
    assert done.exit_code == 1
    head, line = done.output.splitlines()
    assert head == "messages: failed, 1 test"
    assert says in line
    facts = json.loads(run("check", "--json").output)
    assert (facts["ok"], len(facts["pipelines"][0]["failures"])) == (False, 1)


def outcome(decoded, **case):
    return cases.outcome(Pipeline(topic="t", table="u"), Case(expect={}, **case), lambda *_: decoded)


def test_nothing_that_comes_of_a_record_is_filtered():
    assert outcome([], value={"text": "x"}) == [{"filtered": True}]


def test_a_case_is_a_record():
    pipeline, keyed = Pipeline(topic="t", table="u"), Pipeline(topic="t", table="u", format={"key": "json"})
    case = Case(value=["ü"], key="k", headers={"h": "v"}, partition=1, offset=2, timestamp=3, expect={})
    assert cases.record_of(pipeline, case) == Record(b"k", '["ü"]'.encode(), "t", 1, 2, 3, {"h": b"v"})
    assert cases.record_of(keyed, case).key == b'"k"'
    assert cases.record_of(pipeline, Case(key={"id": 1}, topic="s", expect={}))[:3] == (b'{"id": 1}', None, "s")


def test_a_bad_file_is_something_wrong_and_none_is_not_able_to_run():
    write("version: 1\n")
    done = run("check")
    assert (done.exit_code, done.output) == (1, "embedstream.yaml:1:1: pipelines: is missing\n")
    assert json.loads(run("check", "--json").output)["problems"] == [
        {"line": 1, "column": 1, "path": "pipelines", "problem": "is missing"}
    ]
    with pytest.raises(BadFile, match=r"^embedstream.yaml:1:1: pipelines: is missing$"):
        pipeline_settings()
    Path("embedstream.yaml").unlink()
    assert isinstance(run("check").exception, ConfigError)


@pytest.mark.parametrize(
    ("id", "notes"), [("[value.a, key]", 1), ("[value.a]", 0), ("value.a", 0), ("null", 0)], ids=str
)
def test_ids_of_parts_that_may_meet_are_noted_and_stay_what_they_are(id, notes):
    write(ONE.replace("text_message_embeddings", f"t, id: {id}"))
    done = run("check")
    assert (done.exit_code, done.stdout) == (0, "messages: ok\n")
    assert done.stderr.count("messages: note: the parts of id are joined by a colon as they are") == notes
    assert len(json.loads(run("check", "--json").output)["pipelines"][0]["notes"]) == notes


def test_pipelines_are_listed():
    assert [each["name"] for each in json.loads(run("list", "--json").output)] == ["embedstream"]
    write(SEVERAL)
    found = json.loads(run("list", "--json").output)
    assert [each["name"] for each in found] == ["messages", "articles"]
    assert [each["parallelism"] for each in found] == [2, 3]
    assert (found[1]["topic"], found[1]["format"]) == (["shop.articles"], "protobuf a.B")
    assert len({each["mapping_hash"] for each in found}) == 2
    assert "shop.articles" in run("list").output


def test_the_schema_is_printed():
    assert json.loads(run("schema").output)["title"] == "Pipelines of embedstream"


def commands(group, path=()):
    for name, command in group.commands.items():
        yield from commands(command, (*path, name)) if hasattr(command, "commands") else [((*path, name), command)]


WITHOUT = {"version", "console", "mcp", "demo", "flink-env", "service", "local", "model", "pipelines"}


def test_every_command_of_one_pipeline_takes_its_name():
    import typer  # noqa: PLC0415

    for path, command in commands(typer.main.get_command(app)):
        takes = any("--pipeline" in parameter.opts for parameter in command.params)
        assert takes == (path[0] not in WITHOUT), path


def test_a_command_line_alone_loads_neither_yaml_nor_a_client():
    code = "import sys, embedstream.cli; print({'yaml', 'psycopg', 'confluent_kafka'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
