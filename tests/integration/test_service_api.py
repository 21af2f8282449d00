"""The service's API as its clients meet it: slow ones, strangers, OpenAI's own, and too many."""

import base64
import gzip
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import openai
import pytest

from embedstream.decode.chunks import Splitter
from embedstream.decode.spec import Chunks
from embedstream.embedding import EmbeddingClient, embed_query, read_space, read_tokenizer
from embedstream.errors import EmbeddingUnavailable, Rejected
from embedstream.retry import Patience
from embedstream.settings import load_settings
from support.dribble import HEAD, dribble, dribbling
from support.service import MINILM, running_service

KEY = "s3cret-key"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    own = {"EMBEDDING_API_KEY": KEY, "LOG_LEVEL": "DEBUG", "EMBEDDING_PRECISION": "f32"}
    own["EMBEDDING_ACCEPT_TOKEN_IDS"] = "true"
    with running_service(tmp_path_factory.mktemp("guarded"), **own) as service:
        yield service


@pytest.fixture(scope="module")
def client(guarded):
    with openai.OpenAI(
        api_key=KEY, base_url=f"{guarded.url}/v1", timeout=50, http_client=openai.DefaultHttpxClient(trust_env=False)
    ) as client:
        yield client


def http(service, **options):
    return httpx.Client(base_url=service.url, trust_env=False, timeout=150, **options)


@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_openai_s_client_gets_the_vectors_of_generate(guarded, client, encoding):
    texts = ["Where is my parcel?", "🎉 naïve"]
    answer = client.embeddings.create(model="all-MiniLM-L6-v2", input=texts, user="u", dimensions=384, **encoding)
    with http(guarded, headers={"Authorization": f"Bearer {KEY}"}) as own:
        expected = own.post("/generate", json={"texts": texts}).json()
    assert (answer.model, answer.usage.total_tokens) == (MINILM, sum(expected["token_counts"]))
    assert [item.index for item in answer.data] == [0, 1]
    rows = [item.embedding for item in answer.data]
    if encoding == {"encoding_format": "base64"}:
        rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in rows]
    assert np.abs(np.float32(rows) - np.float32(expected["embeddings"])).max() < 1e-6


def test_ids_stand_for_the_text_that_they_were_made_from(client):
    bare, framed = [2073, 2003, 2026, 20463, 1029], [101, 2073, 2003, 2026, 20463, 1029, 102]
    [text] = client.embeddings.create(model=MINILM, input="Where is my parcel?").data
    for ids in (bare, framed, [bare, framed]):
        answer = client.embeddings.create(model=MINILM, input=ids)
        assert answer.usage.prompt_tokens == 7 * len(answer.data)
        for item in answer.data:
            assert np.abs(np.float32(item.embedding) - np.float32(text.embedding)).max() < 1e-6


@pytest.mark.parametrize("name", [MINILM, "all-MiniLM-L6-v2"])
def test_openai_s_client_finds_the_model(client, name):
    assert [model.id for model in client.models.list()] == [MINILM]
    found = client.models.retrieve(name)
    assert (found.id, found.owned_by) == (MINILM, "sentence-transformers")


def test_ids_of_another_tokenizer_give_no_vector(tmp_path):
    with running_service(tmp_path, "fake:4") as service:
        transport = openai.DefaultHttpxClient(trust_env=False)
        with openai.OpenAI(api_key="none", base_url=f"{service.url}/v1", http_client=transport) as client:
            # "hello world" and "tiktoken is great!" as cl100k_base has them, which LangChain sends.
            for ids in ([15339, 1917], [[83, 1609, 5963, 374, 2294, 0]]):
                with pytest.raises(openai.UnprocessableEntityError, match="check_embedding_ctx_length=False") as caught:
                    client.embeddings.create(model="fake:4", input=ids)
                assert caught.value.code == "token_ids_not_accepted"


def test_a_compressed_body_is_read(guarded):
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", "Content-Encoding": "gzip"}
    with http(guarded, headers=headers) as own:
        answer = own.post("/generate/", content=gzip.compress(b'{"text": "Where is my parcel?"}'))
        assert (answer.status_code, answer.json()["token_count"]) == (200, 7)
        answer = own.post("/generate", content=gzip.compress(b'{"text": "' + b"x" * 200_000_000 + b'"}'))
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_entity_too_large")
        answer = own.post("/generate", content=b'{"text": "a"}')
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "not_gzip")
        answer = own.post("/generate", content=b'{"text": "a"}', headers={"Content-Encoding": "br"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unknown_content_encoding")


def test_the_pipeline_rejects_texts_of_which_the_model_sees_nothing(guarded):
    settings = load_settings(embedding_service_url=guarded.url, embedding_api_key=KEY)
    space = read_space(settings)
    thai = "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35"
    texts = ["hello", "\u200b", thai, "\u00ad\u200f", "\U0001f44d", f"{thai} hello", "\u0301\ufe0f", "x" * 200]
    with EmbeddingClient(settings, space, Patience()) as client:
        found = dict(pair for pairs in client.embed(texts) for pair in pairs)
    invisible, unknown = ("embed", "text_invisible"), ("embed", "text_unknown")
    outcomes = [(one.stage, one.code) if isinstance(one, Rejected) else None for _, one in sorted(found.items())]
    assert outcomes == [None, invisible, unknown, invisible, unknown, None, invisible, unknown]
    refused = embed_query(settings, space, thai)
    assert isinstance(refused, Rejected)
    assert "its vocabulary has no piece for any of its words" in refused.reason


def test_the_job_gets_the_tokenizer_with_which_the_service_counts(guarded):
    settings = load_settings(embedding_service_url=guarded.url, embedding_api_key=KEY)
    tokenizer = read_tokenizer(settings, read_space(settings))
    assert (tokenizer.max_tokens, tokenizer.reserved_tokens) == (256, 2)
    chunks = Splitter(Chunks(), tokenizer).split("Where is my parcel? It was sent on Monday. " * 200)
    with http(guarded, headers={"Authorization": f"Bearer {KEY}"}) as own:
        answer = own.post("/generate", json={"texts": [chunk.text for chunk in chunks]}).json()
    assert len(chunks) > 5
    assert set(answer["truncated"]) == {False}
    assert min(answer["token_counts"][:-1]) > 128


def test_openai_s_client_understands_refusals(client):
    with pytest.raises(openai.NotFoundError, match=MINILM) as caught:
        client.embeddings.create(model="text-embedding-3-small", input="a")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.UnprocessableEntityError, match="384 dimensions"):
        client.embeddings.create(model=MINILM, input="a", dimensions=256)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="another").embeddings.create(model=MINILM, input="a")


def test_the_pipeline_s_client_sends_the_key_and_nobody_shows_it(guarded):
    settings = load_settings(embedding_service_url=guarded.url, embedding_api_key=KEY)
    space = read_space(settings)
    assert len(embed_query(settings, space, "hello").vector) == 384
    with pytest.raises(EmbeddingUnavailable, match="HTTP 401 unauthorized"):
        embed_query(settings.model_copy(update={"embedding_api_key": None}), space, "hello")
    with http(guarded) as stranger:
        assert stranger.get("/health").is_success
        for path in ("/metrics", "/info", "/openapi.json", "/nothing"):
            assert stranger.get(path).status_code == 401
        assert stranger.get("/info", headers={"X-Request-Id": "mine-1"}).headers["X-Request-Id"] == "mine-1"
    assert "mine-1" in [record.get("request_id") for record in guarded.records()]
    assert KEY not in guarded.log.read_text()


def test_slow_clients_keep_nobody_waiting_and_are_cut(tmp_path):
    with running_service(tmp_path, "fake:4", EMBEDDING_READ_SECONDS="5") as service:
        clients = dribbling(service.port, 150) + dribbling(service.port, 50, HEAD[:40])
        started, slowest = time.monotonic(), 0.0
        with http(service) as other:
            while time.monotonic() < started + 3:
                assert list(dribble(clients)) == []
                began = time.monotonic()
                assert other.post("/generate", json={"text": "hello"}).is_success
                slowest = max(slowest, time.monotonic() - began)
            answers = [client.recv(4096) for client in clients]
            assert slowest < 1.0
            assert 'embedding_refused_total{code="request_timeout"} 150.0' in other.get("/metrics").text
        assert time.monotonic() - started < 20
        assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers[:150])
        for client in clients:
            client.close()


@pytest.mark.timeout(200)
def test_a_full_queue_answers_at_once_and_says_when_to_come_again(tmp_path):
    texts = ["word " * 250] * 40
    with running_service(tmp_path, EMBEDDING_QUEUE_TEXTS="90") as service, ThreadPoolExecutor(2) as threads:
        with http(service) as client:
            began = time.monotonic()
            assert client.post("/generate", json={"texts": texts[:10]}).is_success
            per_text = (time.monotonic() - began) / 10
            accepted = [threads.submit(post, service, texts) for _ in range(2)]
            while client.get("/health").json()["queue_texts"] < 75:
                pass
            began = time.monotonic()
            answers = [client.post("/generate", json={"texts": texts}) for _ in range(5)]
            assert client.get("/health").is_success
            assert 'embedding_refused_total{code="queue_full"} 5.0' in client.get("/metrics").text
            assert time.monotonic() - began < 3.0
        assert {answer.status_code for answer in answers} == {429}
        for answer in answers:
            assert 1 <= int(answer.headers["Retry-After"]) <= max(2, 10 * 30 * per_text)
        assert [future.result().status_code for future in accepted] == [200, 200]


def post(service, texts):
    with http(service) as client:
        return client.post("/generate", json={"texts": texts})


def test_a_request_that_is_torn_leaves_nothing_behind(tmp_path):
    with running_service(tmp_path, "fake:4") as service, http(service) as client:
        for _ in range(20):
            for one in dribbling(service.port, 5):
                one.close()
        for _ in range(100):
            if 'code="request_torn"} 100.0' in client.get("/metrics").text:
                break
            time.sleep(0.1)
        assert 'code="request_torn"} 100.0' in client.get("/metrics").text
        assert client.get("/health").json()["queue_texts"] == 0
