"""`embedstream model`, run as a user would, against a hub on loopback."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from support.hub import files_of, running_hub
from support.tiny import MODELS, SMALL

NAME = "org/tiny"
TINY = MODELS / "distilbert"


@pytest.fixture(scope="module")
def hub():
    with running_hub() as hub:
        hub.publish(NAME, TINY)
        hub.publish("org/pickle", {**files_of(TINY), "pytorch_model.bin": b"x"})
        del hub.repositories["org/pickle"].commits[hub.repositories["org/pickle"].branches["main"]]["model.safetensors"]
        yield hub


@pytest.fixture
def run(hub, tmp_path):
    def run(*arguments, **environment):
        own = {"HF_ENDPOINT": hub.url, "EMBEDDING_MODEL_CACHE": str(tmp_path), **environment}
        done = subprocess.run(
            [sys.executable, "-m", "embedstream", "model", *arguments],
            env={**os.environ, **own}, capture_output=True, text=True, timeout=50, check=False,
        )  # fmt: skip
        assert (done.returncode == 0) == (done.stderr == ""), done.stderr
        return done

    return run


def test_a_model_is_shown_before_its_weights_are_there_and_after_they_were_pulled(hub, run, tmp_path):
    commit = hub.repositories[NAME].branches["main"]
    before = json.loads(run("show", NAME, "--json").stdout)
    assert (before["source"], before["hub_commit"], before["revision"]) == ("hub", commit, None)
    assert (before["architecture"], before["dimension"]) == ("distilbert", 16)
    assert [file["path"] for file in before["files"] if not file["is_here"]] == ["model.safetensors"]
    assert "model.safetensors (16,632 bytes, not downloaded: embedstream model pull)" in run("show", NAME).stdout
    pulled = run("pull", NAME).stdout
    assert pulled.splitlines()[-1] == f"to pin it: EMBEDDING_MODEL={NAME} EMBEDDING_MODEL_REVISION={commit}"
    after = json.loads(run("show", NAME, "--json", HF_HUB_OFFLINE="1").stdout)
    of_directory = json.loads(run("show", str(TINY), "--json").stdout)
    assert after["runs"] == of_directory["runs"] == "natively, built from its weights"
    assert (after["revision"], of_directory["source"]) == (of_directory["revision"], "directory")


def test_the_model_of_the_settings_is_shown_where_none_is_named(run):
    shown = json.loads(run("show", "--json", EMBEDDING_MODEL=str(MODELS / "electra")).stdout)
    assert (shown["architecture"], shown["runs"].partition(":")[0]) == (
        "electra",
        "as it was exported (onnx/model.onnx)",
    )
    shown = json.loads(run("show", "--json").stdout)
    assert (shown["source"], shown["revision"]) == ("package", "264fd352e252")


@pytest.mark.parametrize("name", ["modernbert", "qwen3"])
def test_a_model_that_could_be_built_and_has_an_export_runs_as_that(run, tmp_path, name):
    """One of one file of weights, and one of several."""
    root = shutil.copytree(SMALL / name, tmp_path / name)
    built = json.loads(run("show", str(root), "--json").stdout)
    shutil.copytree(MODELS / "electra" / "onnx", root / "onnx")
    shown = json.loads(run("show", str(root), "--json").stdout)
    assert (built["architecture"], built["runs"]) == (name, "natively, built from its weights")
    assert (shown["architecture"], shown["runs"]) == (
        name,
        "as it was exported (onnx/model.onnx): tables are pinned to an export where there is one",
    )
    assert [file["path"] for file in shown["files"]] == ["tokenizer.json", "onnx/model.onnx"]
    assert shown["revision"] != built["revision"]


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["pull", "org/gone"], {}, "there is no model org/gone"),
        (["pull", NAME, "--revision", "v9"], {}, "no branch, tag or commit v9"),
        (["pull", "org/pickle"], {}, "pytorch_model.bin is a pickle"),
        (["pull", "all-MiniLM-L6-v2"], {}, "no model of the Hub that has to be pulled"),
        (["pull", NAME], {"HF_ENDPOINT": "http://127.0.0.1:1"}, "http://127.0.0.1:1 does not answer"),
        (["pull", NAME], {"EMBEDDING_MODEL_DOWNLOAD": "off"}, "EMBEDDING_MODEL_DOWNLOAD=off forbids to fetch it"),
        (["show", "/no/such"], {}, "there is no model /no/such"),
        (["show", "fake:4"], {}, "there is no model fake:4"),
    ],
)
def test_what_cannot_be_done_is_one_line(run, arguments, environment, said):
    done = run(*arguments, **environment)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert said in line


def test_a_revision_belongs_to_the_model_that_it_was_set_for(hub, run):
    first = hub.repositories[NAME].branches["main"]
    hub.publish(NAME, {**files_of(TINY), "README.md": b"x"}, branch="v2")
    set_for = {"EMBEDDING_MODEL": NAME, "EMBEDDING_MODEL_REVISION": "v2"}
    assert json.loads(run("show", "--json", **set_for).stdout)["hub_commit"] != first
    of_another = {"EMBEDDING_MODEL": "org/other", "EMBEDDING_MODEL_REVISION": "v2"}
    assert json.loads(run("show", NAME, "--json", **of_another).stdout)["hub_commit"] == first
