"""What a pipeline file says of records goes with the settings to the job, and back from it."""

import json
import pickle

import pytest

from embedstream.decode.spec import Decoding, Formats, ProtobufFile
from embedstream.errors import ConfigError
from embedstream.flink import differences, job_parameters, settings_of_parameters, submission
from embedstream.settings import load_settings
from embedstream.worker import worker_settings

MAPPED = Decoding(
    format={"value": "registry"}, registry="http://registry:8081", text=["value.title", "value.bödy"],
    timestamp={"from": "value.at", "unit": "ms"}, metadata={"lang": "value.lang"},
)  # fmt: skip


def test_no_variable_is_the_mapping(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("{}")
    monkeypatch.setenv("DECODING", "no json")
    monkeypatch.setenv("DECODING_FILE", str(tmp_path / "file"))
    assert load_settings().decoding is None
    assert "DECODING" not in load_settings(decoding=MAPPED).to_env()


def test_the_mapping_reaches_the_workers():
    settings = pickle.loads(pickle.dumps(load_settings(decoding=MAPPED)))
    assert worker_settings(settings).decoding == MAPPED


def test_the_job_s_program_is_told_the_mapping(monkeypatch):
    job = pytest.importorskip("embedstream.job.__main__")
    called = []
    monkeypatch.setattr(submission.subprocess, "run", lambda command, **_: called.append(command) or Done())
    monkeypatch.setattr(submission, "client", lambda _: "flink")
    monkeypatch.setattr(submission, "jars_to_ship", lambda _: [])
    submission.run(load_settings(decoding=MAPPED), arguments=["--starts=0:1"])
    (command,) = called
    arguments = job.parse(command[command.index("--python") + 2 :])
    assert (arguments.decoding, arguments.starts) == (MAPPED, "0:1")


class Done:
    returncode, stdout = 0, ""


def test_a_job_without_a_mapping_is_told_of_none():
    assert "DECODING" not in job_parameters(load_settings())


def test_a_job_carries_the_mapping_as_plain_json():
    carried = job_parameters(load_settings(decoding=MAPPED))
    assert json.loads(carried["DECODING"])["text"] == ["value.title", "value.bödy"]
    assert carried["DECODING"].isascii()
    assert settings_of_parameters(carried, load_settings()).decoding == MAPPED
    assert settings_of_parameters(job_parameters(load_settings()), load_settings(decoding=MAPPED)).decoding is None


def test_what_this_version_cannot_read_is_one_clear_sentence():
    carried = job_parameters(load_settings(decoding=MAPPED)) | {"DECODING": '{"newer": 1}'}
    with pytest.raises(ConfigError, match="written by another version"):
        settings_of_parameters(carried, load_settings())


def test_a_job_with_another_mapping_is_told_apart():
    carried = job_parameters(load_settings(decoding=MAPPED))
    other = MAPPED.model_copy(update={"source": "value.source"})
    assert differences(carried, load_settings(decoding=MAPPED)) == []
    assert differences(carried, load_settings(decoding=other)) == [
        f"MAPPING_HASH is {MAPPED.mapping_hash} there, {other.mapping_hash} here"
    ]
    assert differences(carried, load_settings()) == [f"MAPPING_HASH is {MAPPED.mapping_hash} there, not set here"]


def test_the_hash_is_that_of_the_meaning():
    proto = Formats(value=ProtobufFile(protobuf="/here/a.proto", message="a.B"))
    elsewhere = Formats(value=ProtobufFile(protobuf="/there/a.proto", message="a.B"))
    assert len(MAPPED.mapping_hash) == 12
    assert Decoding(format="json").mapping_hash == Decoding().mapping_hash
    assert MAPPED.model_copy(update={"registry": "http://other"}).mapping_hash == MAPPED.mapping_hash
    assert Decoding(format=proto).mapping_hash == Decoding(format=elsewhere).mapping_hash
    assert Decoding(text="value.a").mapping_hash != Decoding(text="value.b").mapping_hash


@pytest.mark.parametrize(
    ("facts", "order"),
    [
        ({}, "time"), ({"envelope": "debezium"}, "record"), ({"envelope": "debezium", "version": "time"}, "time"),
        ({"version": "record"}, "record"), ({"envelope": "maxwell", "version": "value.version"}, "time"),
    ],
)  # fmt: skip
def test_a_change_log_s_order_is_that_of_its_records(facts, order):
    assert Decoding(**facts).version_by == order
