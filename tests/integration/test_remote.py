"""The service as a gateway, in a process of its own, before a server on loopback; and what the job makes of it."""

from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest

from embedstream import doctor, embedding, store
from embedstream.decode.message import Message, Version, content_hash
from embedstream.doctor.check import run
from embedstream.doctor.world import World
from embedstream.errors import ConfigError, EmbeddingUnavailable, Rejected
from embedstream.ingest import Change
from embedstream.retry import Patience
from embedstream.search.request import Request
from embedstream.search.searcher import search
from embedstream.settings import load_settings
from embedstream.status import parts
from support.remote import KEY, OpenAi, served, vector
from support.service import running_service, started_service


@pytest.fixture(scope="module")
def remote():
    server = OpenAi(tokens=1_000_000, requests=3000)
    with served(server) as url:
        server.url = f"{url}/v1"
        yield server


@pytest.fixture(scope="module")
def service(remote, tmp_path_factory):
    settings = {"REMOTE_URL": remote.url, "REMOTE_MODEL": remote.model, "REMOTE_KEY": KEY, "REMOTE_PRICE": "0.02"}
    with running_service(tmp_path_factory.mktemp("remote"), EMBEDDING_ENGINE="remote", **settings) as service:
        yield service


@pytest.fixture(autouse=True)
def _behaves(remote):
    yield
    remote.twist, remote.seed = None, ""


def client_of(service):
    settings = load_settings(embedding_service_url=service.url)
    space = embedding.read_space(settings)
    return embedding.EmbeddingClient(settings, space, Patience()), space


def results(client, texts):
    found = {position: result for chunk in client.embed(texts) for position, result in chunk}
    return [found[position] for position in range(len(texts))]


def test_the_job_s_client_gets_vectors_and_refusals_by_their_texts(service, remote):
    client, _ = client_of(service)
    texts = [*(f"text {number}" for number in range(300)), "long " * 9000]
    with client:
        *embedded, refused = results(client, texts)
    assert np.allclose([each.vector for each in embedded], [vector(text, 8) for text in texts[:-1]])
    assert {(each.token_count, each.truncated) for each in embedded} == {(None, False)}
    assert isinstance(refused, Rejected)
    assert (refused.stage, refused.code) == ("embed", "text_too_long")


def test_what_nobody_counted_is_null_in_the_table(service, database):
    client, space = client_of(service)
    store.prepare(database, space)
    with client:
        [embedded] = results(client, ["a text"])
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    version = Version(moment, "t", 0, 0)
    message = Message("a", version, "a text", content_hash("a text"), moment, None, "{}")
    table = store.TableStore(database, space)
    assert set(table.write([Change(message, embedded)]).won) == {"a"}
    table.close()
    with store.database(database) as connection:
        [row] = connection.execute(f"SELECT token_count, truncated FROM {database.pgvector_table}")
    assert row == (None, False)


@pytest.fixture(scope="module")
def moved_service(tmp_path_factory):
    """Of the same name and revision, before a server whose vectors are others."""
    server = OpenAi()
    server.seed = "another model "
    with served(server) as url:
        settings = {"REMOTE_URL": f"{url}/v1", "REMOTE_MODEL": server.model, "REMOTE_KEY": KEY}
        with running_service(tmp_path_factory.mktemp("moved"), EMBEDDING_ENGINE="remote", **settings) as service:
            yield service


def test_vectors_that_moved_are_not_mixed_in(service, moved_service, database):
    own = database.model_copy(update={"embedding_service_url": service.url})
    moved = database.model_copy(update={"embedding_service_url": moved_service.url})
    space = embedding.read_space(own)
    assert embedding.read_space(moved) == space
    store.prepare(own, space, canary=embedding.read_canary(own))
    store.prepare(own, space, canary=embedding.read_canary(own))
    with pytest.raises(ConfigError, match="space_moved"):
        store.prepare(moved, space, canary=embedding.read_canary(moved))
    with store.database(own) as connection:
        kept = store.read_canary(connection, own)
    assert not isinstance(embedding.embed_query(own, space, "words", canary=kept), Rejected)
    with pytest.raises(EmbeddingUnavailable, match=r"space_moved.*PGVECTOR_TABLE"):
        embedding.embed_query(moved, space, "words", canary=kept)
    assert waited(lambda patience: embed(moved, space, patience, kept)).startswith("space_moved")
    assert "space_moved" in parts.read_service(moved).trouble
    assert parts.read_service(own).trouble is None
    assert (examined(moved)["service.remote"], examined(moved)["service.canary"]) == ("ok", "FAIL")
    assert set(examined(own).values()) == {"ok"}


def examined(settings):
    checks = (*doctor.service.CHECKS, *doctor.database.CHECKS[:1], doctor.service.CANARY)
    with World(settings) as world:
        return {finding.check: finding.state for finding in run(checks, world)}


def embed(settings, space, patience, kept):
    with embedding.EmbeddingClient(settings, space, patience, canary=kept) as client:
        return results(client, ["a text"])


def waited(call):
    """What a call that waits for ever would wait for."""
    reasons = []

    class Enough(Exception):
        pass

    def sleep(_):
        raise Enough

    patience = Patience(sleep)
    note = patience._note
    patience._note = lambda state: (reasons.append(str(state.outcome.exception())), note(state))
    with pytest.raises(Enough):
        call(patience)
    return reasons[0]


def test_a_search_notices_vectors_that_moved(service, moved_service, database):
    own = database.model_copy(update={"embedding_service_url": service.url})
    store.prepare(own, embedding.read_space(own), canary=embedding.read_canary(own))
    request = Request(query="words")
    assert search(own, request).hits == ()
    with pytest.raises(EmbeddingUnavailable, match="space_moved"):
        search(own.model_copy(update={"embedding_service_url": moved_service.url}), request)


def test_a_standstill_is_told_everywhere_and_the_key_nowhere(service, remote):
    remote.twist = lambda _: remote.out_of_quota()
    answer = httpx.post(f"{service.url}/generate", json={"text": "not yet known"})
    health = httpx.get(f"{service.url}/health")
    info = httpx.get(f"{service.url}/info").json()
    metrics = httpx.get(f"{service.url}/metrics").text
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "remote_quota")
    assert int(answer.headers["retry-after"]) >= 1
    assert (health.status_code, health.json()["status"]) == (503, "standstill")
    settings = load_settings(embedding_service_url=service.url)
    assert "quota is used up" in parts.read_service(settings).trouble
    with pytest.raises(EmbeddingUnavailable, match=r"remote_quota.*quota is used up"):
        embedding.embed_query(settings, embedding.read_space(settings), "never asked")
    assert info["remote"]["standstill"]["code"] == "remote_quota"
    assert info["remote"]["today"]["cost"] > 0
    assert "embedding_remote_standstill 1.0" in metrics
    remote.twist = None
    service.wait_until_ready()
    shown = answer.text + health.text + str(info) + metrics + service.log.read_text()
    assert KEY not in shown


def test_openai_s_own_client_works_through_the_gateway(service, remote):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(
        base_url=f"{service.url}/v1", api_key="none", http_client=httpx.Client(trust_env=False)
    ) as client:
        answer = client.embeddings.create(model=remote.model, input=["a", "b"])
    assert np.allclose([each.embedding for each in answer.data], [vector("a", 8), vector("b", 8)])


def test_no_library_of_an_engine_is_loaded(service):
    maps = [Path(f"/proc/{process.pid}/maps") for process in service.family()]
    if not maps[0].exists():
        pytest.skip("this system does not tell")
    assert not [path for path in maps if "openvino" in path.read_text()]


def test_a_server_that_is_not_there_yet_is_waited_for_and_named(tmp_path):
    settings = {"REMOTE_URL": "http://127.0.0.1:1/v1", "REMOTE_MODEL": "m", "REMOTE_TEXT_TOKENS": "512"}
    with started_service(tmp_path, EMBEDDING_ENGINE="remote", **settings) as service:
        health = until_told(service)
    assert health["status"] == "loading"
    assert "http://127.0.0.1:1/v1 does not answer" in health["error"]["message"]


def until_told(service):
    for _ in range(200):
        try:
            health = httpx.get(f"{service.url}/health").json()
        except httpx.HTTPError:
            continue
        if "remote" in health["error"]["message"]:
            return health
    raise AssertionError(health)


def test_our_own_service_may_stand_behind_the_gateway(tmp_path):
    """Whose OpenAI-compatible route it is."""
    with running_service(tmp_path, "fake:16") as behind:
        settings = {"REMOTE_URL": f"{behind.url}/v1", "REMOTE_MODEL": "fake:16", "REMOTE_TEXT_TOKENS": "256"}
        with running_service(tmp_path, EMBEDDING_ENGINE="remote", **settings) as gateway:
            texts = {"texts": ["one", "two words"]}
            ours = httpx.post(f"{gateway.url}/generate", json=texts).json()["embeddings"]
            theirs = httpx.post(f"{behind.url}/generate", json=texts).json()["embeddings"]
    assert np.allclose(ours, theirs)
