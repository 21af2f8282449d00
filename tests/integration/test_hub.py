"""Models of the Hub, fetched from one on loopback that speaks its protocol."""

import errno
import json
import shutil
import threading
import time

import httpx
import pytest
from safetensors.numpy import load, save

from embedstream import embedding, store
from embedstream.errors import ConfigError
from embedstream.local.ports import LOOPBACK, free_port
from embedstream.service.engine import hub as engine_hub
from embedstream.service.engine.hub import fetch, fetch_patiently
from embedstream.service.engine.hub_trouble import HubUnavailable
from embedstream.service.engine.model import find_model, revision
from embedstream.service.engine.progress import Progress
from embedstream.settings import Settings
from support.hub import files_of, running_hub
from support.service import MINILM, started_service
from support.tiny import MODELS

NAME = "org/tiny"
TINY = MODELS / "distilbert"
WEIGHTS = "model.safetensors"


@pytest.fixture
def hub():
    with running_hub() as hub:
        hub.publish(NAME, TINY)
        yield hub


@pytest.fixture
def settings(hub, tmp_path):
    def made(**own):
        default = {"embedding_model": NAME, "hf_endpoint": hub.url, "embedding_model_cache": tmp_path / "cache"}
        return Settings(**{**default, **own})

    return made


def fetched(settings):
    return fetch(settings, Progress())


def refused(settings):
    with pytest.raises(ConfigError) as caught:
        fetched(settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_is_what_its_directory_is(hub, settings):
    snapshot = fetched(settings())
    model = find_model(str(snapshot.root))
    assert (model.name, model.hub_commit) == (NAME, hub.repositories[NAME].branches["main"])
    assert revision(model) == revision(find_model(str(TINY)))


def test_only_what_is_needed_is_fetched_and_nobody_is_told(hub, settings):
    extra = {"pytorch_model.bin": b"x", "modeling.py": b"x", "README.md": b"x", "onnx/config.json": b"{}"}
    commit = hub.publish(NAME, {**files_of(TINY), **extra})
    snapshot = fetched(settings())
    assert {path.relative_to(snapshot.root).as_posix() for path in snapshot.root.rglob("*") if path.is_file()} == {
        "modules.json", "config.json", "sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json",
        "1_Pooling/config.json", WEIGHTS,
    }  # fmt: skip
    allowed = (f"/api/models/{NAME}/revision/main", f"/api/models/{NAME}/tree/{commit}", f"/{NAME}/resolve/{commit}/")
    assert all(each.path.startswith(allowed) for each in hub.asked)


def test_the_second_time_a_branch_costs_one_request_and_a_commit_none(hub, settings):
    commit = fetched(settings()).commit
    hub.asked.clear()
    fetched(settings())
    assert [each.path for each in hub.asked] == [f"/api/models/{NAME}/revision/main"]
    hub.asked.clear()
    assert fetched(settings(embedding_model_revision=commit)).commit == commit
    assert hub.asked == []


def test_branches_tags_and_commits_are_revisions(hub, settings):
    first = hub.repositories[NAME].branches["main"]
    second = hub.publish(NAME, {**files_of(TINY), "README.md": b"x"}, branch="v2")
    assert fetched(settings(embedding_model_revision="v2")).commit == second
    assert fetched(settings(embedding_model_revision=first)).commit == first


def test_shards_and_the_folders_of_other_modules_are_fetched(hub, settings):
    files = files_of(TINY)
    parts = {f"model-0000{n}-of-00002.safetensors": bytes([n]) * 100_000 for n in (1, 2)}
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    modules = [*json.loads(files["modules.json"]), {"idx": 2, "path": "2_Dense", "type": "x.Dense"}]
    del files[WEIGHTS]
    own = {
        **parts,
        "model.safetensors.index.json": json.dumps(index).encode(),
        "modules.json": json.dumps(modules).encode(),
        "2_Dense/config.json": b"{}",
        "2_Dense/model.safetensors": b"dense",
        "3_Other/model.safetensors": b"other",
    }
    hub.publish(NAME, {**files, **own})
    assert set(own) - {"3_Other/model.safetensors"} <= set(fetched(settings()).needed)
    assert "3_Other/model.safetensors" not in fetched(settings()).needed


def test_an_export_is_fetched_where_the_architecture_is_not_known(hub, settings):
    hub.publish(NAME, {**files_of(MODELS / "electra"), WEIGHTS: b"x", "onnx/model_quantized.onnx": b"x"})
    assert [name for name in fetched(settings()).needed if not name.endswith(".json")] == ["onnx/model.onnx"]
    with_torch = fetched(settings(embedding_engine="sentence-transformers"))
    assert [name for name in with_torch.needed if not name.endswith(".json")] == [WEIGHTS]


def test_a_cut_connection_is_gone_on_with(hub, settings, monkeypatch):
    monkeypatch.setattr(engine_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.cut_after = 10_000
    snapshot = fetched(settings())
    assert (snapshot.root / WEIGHTS).read_bytes() == (TINY / WEIGHTS).read_bytes()
    assert any(each.range for each in hub.asked)


def test_damaged_bytes_of_the_right_size_are_fetched_again(hub, settings):
    hub.damaged, hub.damages_once = {WEIGHTS}, True
    snapshot = fetched(settings())
    assert (snapshot.root / WEIGHTS).read_bytes() == (TINY / WEIGHTS).read_bytes()


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_mirror_that_lies_is_refused_by_name_and_nothing_of_it_kept(hub, settings, name):
    hub.damaged = {name}
    assert f"{name} of {NAME} is damaged (another digest): {hub.url} gives out other" in refused(settings())
    hub.damaged = set()
    assert revision(find_model(str(fetched(settings()).root))) == revision(find_model(str(TINY)))


def test_a_damaged_cache_is_mended_or_said_where_nobody_may_be_asked(hub, settings):
    weights = (fetched(settings()).root / WEIGHTS).resolve()
    weights.write_bytes(bytes(weights.stat().st_size))
    assert "check the disk" in refused(settings(hf_hub_offline=True))
    assert (fetched(settings()).root / WEIGHTS).read_bytes() == (TINY / WEIGHTS).read_bytes()


def test_the_cache_is_enough_where_the_hub_is_away_or_must_not_be_asked(hub, settings):
    commit = fetched(settings()).commit
    hub.asked.clear()
    for own in ({"hf_hub_offline": True}, {"embedding_model_download": "off"}):
        assert fetched(settings(**own)).commit == commit
        assert fetched(settings(**own, embedding_model_revision=commit)).commit == commit
    assert hub.asked == []
    away = settings(hf_endpoint=f"http://{LOOPBACK}:{free_port()}")
    assert fetched(away).commit == commit
    hub.fails = 1
    assert fetched(settings()).commit == commit


@pytest.mark.parametrize(
    ("own", "named"),
    [
        ({"hf_hub_offline": True}, "HF_HUB_OFFLINE"),
        ({"embedding_model_download": "off"}, "EMBEDDING_MODEL_DOWNLOAD=off"),
    ],
)
def test_what_is_not_in_the_cache_names_the_setting_and_the_command(hub, settings, own, named):
    message = refused(settings(**own))
    assert f"{NAME} is not in the cache" in message
    assert f"{named} forbids to fetch it: embedstream model pull {NAME}" in message
    (fetched(settings()).root / WEIGHTS).unlink()
    assert f"only a part of {NAME} is in the cache" in refused(settings(**own))


def test_a_model_that_is_not_there_and_one_that_is_private(hub, settings):
    assert f"there is no model org/other at {hub.url}, or it is private" in refused(
        settings(embedding_model="org/other")
    )
    hub.tokens = {"good", "other"}
    hub.repositories[NAME].readers = {"good"}
    assert "it is private, which needs HF_TOKEN" in refused(settings())
    assert "HF_TOKEN may not read it" in refused(settings(hf_token="other"))
    assert "refuses HF_TOKEN as unknown or expired" in refused(settings(hf_token="bad"))
    hub.repositories[NAME].is_gated = True
    assert f"gated: accept its conditions at {hub.url}/{NAME}" in refused(settings(hf_token="other"))
    assert fetched(settings(hf_token="good"))


def test_a_token_is_not_sent_where_large_files_are_kept(hub, settings):
    hub.redirects, hub.tokens = True, {"good"}
    hub.repositories[NAME].readers = {"good"}
    fetched(settings(hf_token="good"))
    stored = [each for each in hub.asked if each.path.startswith("/stored/")]
    assert stored
    assert {each.authorization for each in stored} == {None}
    assert {each.authorization for each in hub.asked if each not in stored} == {"Bearer good"}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [("abcdef0", "a commit needs all of its 40 digits"), ("v9", "no branch, tag or commit v9"), ("0" * 40, "0000")],
)
def test_an_unknown_revision_is_refused_by_name(hub, settings, wanted, said):
    assert said in refused(settings(embedding_model_revision=wanted))


def test_mirrors_that_leave_something_out_are_named(hub, settings):
    hub.tells_commit = False
    assert f"{hub.url} leaves out headers of the Hub" in refused(settings())
    hub.tells_commit, hub.is_html = True, True
    assert f"{hub.url} does not answer as the Hub does" in refused(settings())
    hub.is_html = False
    assert "answers HTTP 404" in refused(settings(hf_endpoint=f"{hub.url}/elsewhere"))


def test_xet_is_not_used_of_a_mirror_unless_it_is_asked_for(hub, settings, monkeypatch):
    hub.has_xet = True
    monkeypatch.setattr(engine_hub.constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "0")
    assert "set HF_HUB_DISABLE_XET=1" in refused(settings())
    monkeypatch.delenv("HF_HUB_DISABLE_XET")
    assert fetched(settings())
    assert not [path for path in hub.paths()[-1:] if "xet" in path]


def test_trouble_that_may_pass_is_waited_out_and_said(hub, settings):
    hub.fails, progress, said = 2, Progress(), []
    asks = progress.asks
    progress.asks = lambda model: (said.append(progress.trouble), asks(model))
    fetch_patiently(settings(), progress)
    assert said == [None, *[f"{hub.url} answers HTTP 503"] * 2]
    assert progress.facts() == {"step": "loading"}


def test_a_hub_that_is_away_may_come_back(hub, settings):
    url = f"http://{LOOPBACK}:{free_port()}"
    with pytest.raises(HubUnavailable, match=f"{url} does not answer"):
        fetched(settings(hf_endpoint=url))


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "is full"), (errno.EACCES, "cannot write to"), (errno.ENOTDIR, "cannot write to")],
)
def test_a_disk_that_takes_no_more_is_said(hub, settings, monkeypatch, number, said):
    def fails(*_, **__):
        raise OSError(number, "the disk")

    monkeypatch.setattr(engine_hub, "snapshot_download", fails)
    message = refused(settings())
    assert said in message
    assert "EMBEDDING_MODEL_CACHE" in message


def test_a_disk_that_is_too_small_is_said_before_anything_comes(hub, settings, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 10_000))
    assert "EMBEDDING_MODEL_CACHE to a larger disk" in refused(settings())
    assert f"/{NAME}/resolve/{hub.repositories[NAME].branches['main']}/{WEIGHTS}" not in hub.paths()


@pytest.mark.parametrize(
    ("lacking", "said"),
    [("modules.json", "has no modules.json"), ("tokenizer.json", "has no tokenizer.json"), (WEIGHTS, "no weights")],
)
def test_what_cannot_be_run_is_refused_before_its_weights_come(hub, settings, lacking, said):
    files = {**files_of(TINY), "pytorch_model.bin": b"pickle"}
    del files[lacking]
    hub.publish(NAME, files)
    assert said in refused(settings())
    assert not [path for path in hub.paths() if path.endswith((".bin", ".safetensors"))]


def test_an_unknown_architecture_without_an_export_is_refused_before_its_weights_come(hub, settings):
    config = json.loads((TINY / "config.json").read_text()) | {"model_type": "novel"}
    hub.publish(NAME, {**files_of(TINY), "config.json": json.dumps(config).encode()})
    assert f"{NAME} is a novel" in refused(settings())
    assert not [path for path in hub.paths() if path.endswith(".safetensors")]


def test_a_list_that_the_library_keeps_otherwise_is_asked_for(hub, settings, monkeypatch):
    monkeypatch.setattr(engine_hub, "_kept_listing", lambda _: None)
    hub.damaged = {WEIGHTS}
    assert f"{WEIGHTS} of {NAME} is damaged" in refused(settings())
    hub.damaged = set()
    commit = fetched(settings()).commit
    assert fetched(settings(hf_hub_offline=True)).commit == commit


def test_a_hub_that_lists_files_elsewhere_has_none_of_them_touched(hub, settings, tmp_path):
    mine = tmp_path / "cache" / "config.json"
    mine.parent.mkdir()
    mine.write_text("{}")
    modules = [*json.loads((TINY / "modules.json").read_text()), {"idx": 2, "path": "../../..", "type": "x.Dense"}]
    own = {"modules.json": json.dumps(modules).encode(), "../../../config.json": b"other"}
    hub.publish(NAME, {**files_of(TINY), **own})
    assert "../../../config.json" not in fetched(settings()).needed
    assert mine.read_text() == "{}"


def test_what_a_killed_download_left_is_removed(hub, settings, tmp_path):
    blobs = fetched(settings()).root.parents[1] / "blobs"
    (blobs / "old.incomplete").write_bytes(b"x")
    (blobs / "new.incomplete").write_bytes(b"x")
    engine_hub.os.utime(blobs / "old.incomplete", (0, 0))
    hub.publish(NAME, {**files_of(TINY), WEIGHTS: bytes(100_000)})
    fetched(settings())
    assert [path.name for path in blobs.glob("*.incomplete")] == ["new.incomplete"]


def health(service):
    return httpx.get(f"{service.url}/health", timeout=5, trust_env=False)


def wait_for(service, what):
    """The first answer of /health of which `what` is true; None where the service ended before."""
    while service.process.poll() is None:
        try:
            if what(answer := health(service)):
                return answer
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    return None


@pytest.fixture
def started(hub, tmp_path):
    """A service of a model of the hub."""

    def start(**own):
        environment = {"HF_ENDPOINT": hub.url, "EMBEDDING_MODEL_CACHE": str(tmp_path / "cache"), **own}
        return started_service(tmp_path, "org/name", **environment)

    return start


def test_a_service_loads_the_default_model_by_a_name_of_the_hub(hub, started):
    """The bytes come in parts, are counted meanwhile, and make the revision that the installed package has."""
    commit = hub.publish("org/name", find_model(MINILM).root)
    hub.waits = threading.Event()
    with started() as service:
        answer = wait_for(service, lambda answer: answer.json().get("progress", {}).get("bytes"))
        assert answer.status_code == 503
        state = answer.json()
        progress = state["progress"]
        assert (state["status"], progress["step"], progress["model"]) == ("loading", "downloading", "org/name")
        assert (progress["hub_commit"], progress["files"], progress["trouble"]) == (commit, 1, None)
        assert 0 < progress["bytes"] < progress["total_bytes"]
        assert "the model is being downloaded: " in state["error"]["message"]
        waits, hub.waits = hub.waits, None
        hub.cut_after = 30_000_000
        waits.set()
        service.wait_until_ready()
        facts = httpx.get(f"{service.url}/info", trust_env=False).json()
    assert (facts["model_name"], facts["hub_commit"]) == ("org/name", commit)
    assert facts["model_revision"] == "264fd352e252"
    assert all(record["level"] != "ERROR" for record in service.records())


def test_a_service_waits_for_a_hub_that_is_away(hub, started):
    hub.publish("org/name", TINY)
    hub.fails = 10**6
    with started() as service:
        answer = wait_for(service, lambda answer: answer.json().get("progress", {}).get("trouble"))
        assert answer.json()["progress"]["trouble"] == f"{hub.url} answers HTTP 503"
        hub.fails = 0
        service.wait_until_ready()
        assert health(service).json()["model_name"] == "org/name"


def test_a_model_that_the_hub_refuses_ends_the_service_with_its_sentence(hub, started):
    with started() as service:
        assert service.process.wait(30) == 2
        assert service.log.read_text().splitlines()[-1].startswith("embedstream: there is no model org/name at http://")


def test_a_service_offline_starts_from_the_cache_that_was_pulled(hub, started, settings):
    hub.publish("org/name", TINY)
    fetched(settings(embedding_model="org/name"))
    with started(HF_HUB_OFFLINE="1", HF_ENDPOINT="") as service:
        service.wait_until_ready()


def test_a_service_that_is_told_to_stop_while_it_downloads_ends_at_once(hub, started):
    hub.publish("org/name", TINY)
    hub.waits = threading.Event()
    with started() as service:
        wait_for(service, lambda answer: answer.json().get("progress", {}).get("total_bytes"))
        assert service.terminate() == 0


def test_a_branch_that_moved_is_refused_with_the_commit_of_the_table(hub, started, database):
    """And the service starts with that commit from the cache, though the branch is another's now."""
    first = hub.publish("org/name", TINY)

    def prepare(service):
        settings = database.model_copy(update={"embedding_service_url": service.url})
        service.wait_until_ready()
        origin = embedding.read_origin(settings)
        store.prepare(settings, embedding.read_space(settings), hub_commit=origin.commit)
        return origin

    with started() as service:
        assert prepare(service) == (first, "main")
    weights = load((TINY / WEIGHTS).read_bytes())
    second = hub.publish("org/name", {**files_of(TINY), WEIGHTS: save({name: -each for name, each in weights.items()})})
    with started() as service, pytest.raises(ConfigError) as caught:
        prepare(service)
    assert f"set EMBEDDING_MODEL_REVISION={first} where the service runs" in str(caught.value)
    hub.asked.clear()
    with started(EMBEDDING_MODEL_REVISION=first) as service:
        assert prepare(service).is_pinned
    assert (second != first, hub.asked) == (True, [])
