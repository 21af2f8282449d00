import base64
import json
import math
import threading

import httpx
import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedstream import embedding, packing
from embedstream.embedding import EmbeddingClient
from embedstream.errors import ConfigError, EmbeddingUnavailable, Rejected
from embedstream.limits import REQUEST_BYTES
from embedstream.retry import Patience
from embedstream.settings import load_settings
from embedstream.space import Space, Tokenizer

SPACE = Space("org/model", "r1", 3, normalised=True, max_tokens=256)


class Service:
    """The service's contract, with failures on demand; counts the requests it gets."""

    def __init__(self, poison=(), refused=(), answers=(), refusal=422):
        self.poison = poison
        self.refusal = refusal
        self.refused = refused
        self.answers = list(answers)
        self.requests = []

    def __call__(self, request):
        texts = json.loads(request.content)["texts"]
        self.requests.append(texts)
        if self.answers:
            answer = self.answers.pop(0)
            if answer is not None:
                return answer() if callable(answer) else answer
        for index, text in enumerate(texts):
            if text in self.refused:
                error = {"code": "text_blank", "message": "the text is blank", "index": index}
                return httpx.Response(self.refusal, json={"error": error})
        if any(text in self.poison for text in texts):
            return httpx.Response(500, json={"error": {"code": "internal", "message": "x", "index": None}})
        return httpx.Response(200, json=body(texts))


class Crashing(Service):
    """Drops the connection on a poison, and is away for the next `down` requests."""

    def __init__(self, poison, down=0, while_down=httpx.ConnectError):
        super().__init__()
        self.deadly = poison
        self.down = down
        self.while_down = while_down
        self.left = 0

    def __call__(self, request):
        texts = json.loads(request.content)["texts"]
        if self.left:
            self.left -= 1
            raise self.while_down("x")
        if any(text in self.deadly for text in texts):
            self.left = self.down
            self.requests.append(texts)
            raise httpx.RemoteProtocolError("x")
        return super().__call__(request)


class Blinking(Service):
    """Answers one of its requests, given by its number, with 500."""

    def __init__(self, blip, **options):
        super().__init__(**options)
        self.blip = blip

    def __call__(self, request):
        if len(self.requests) == self.blip:
            self.requests.append(json.loads(request.content)["texts"])
            return httpx.Response(500)
        return super().__call__(request)


class Slow(Service):
    """Does not answer in time for more than `most` texts, or for a text of `stuck` the first few times."""

    def __init__(self, most, stuck=None, times=0):
        super().__init__()
        self.most = most
        self.stuck = stuck
        self.times = times

    def __call__(self, request):
        texts = json.loads(request.content)["texts"]
        if self.stuck in texts and self.times:
            self.times -= 1
            raise httpx.ReadTimeout("x")
        if len(texts) > self.most:
            raise httpx.ReadTimeout("x")
        return super().__call__(request)


def body(texts, **changes):
    rows = np.array([vector(text) for text in texts], "<f4").reshape(len(texts), 3)
    return {
        "model_name": "org/model", "model_revision": "r1", "embedding_dimension": 3,
        "embeddings": base64.b64encode(rows.tobytes()).decode(),
        "token_counts": [len(text) for text in texts], "truncated": [False] * len(texts), **changes,
    }  # fmt: skip


def vector(text):
    return [len(text), sum(map(ord, text)), 1.0]


def embed(service, texts, batch=64, waits=None):
    settings = load_settings(embedding_batch_texts=batch)
    patience = Patience(sleep=waits.append if waits is not None else lambda _: None)
    with EmbeddingClient(settings, SPACE, patience, httpx.MockTransport(service)) as client:
        results = dict(one for chunk in client.embed(texts) for one in chunk)
    assert sorted(results) == list(range(len(texts)))
    return [results[position] for position in range(len(texts))]


def test_search_words_are_sent_as_a_query_and_messages_as_passages():
    seen = []

    def service(request):
        seen.append(json.loads(request.content).get("input_type", "passage"))
        return Service()(request)

    with EmbeddingClient(load_settings(), SPACE, Patience(), httpx.MockTransport(service)) as client:
        client.embed_query("words")
        list(client.embed(["message"]))
    assert seen == ["query", "passage"]


def test_each_text_gets_its_own_vector_whatever_the_chunks():
    texts = ["x" * (n * 7 % 23 + 1) + str(n) for n in range(50)]
    service = Service()
    for text, result in zip(texts, embed(service, texts, batch=8), strict=True):
        assert result.vector.tolist() == np.array(vector(text), np.float32).tolist()
        assert (result.token_count, result.truncated) == (len(text), False)
    assert [len(request) for request in service.requests].count(8) == 6


def test_answers_that_come_at_once_come_together(monkeypatch):
    monkeypatch.setattr(packing, "_TOGETHER_SECONDS", 60)
    assert chunks_of_positions(Service(), ["x", "y", "z"]) == [[0, 1, 2]]


def test_an_answer_does_not_wait_for_a_late_one():
    first_is_taken = threading.Event()

    def service(request):
        if "the last" in json.loads(request.content)["texts"]:
            first_is_taken.wait(30)
        return Service()(request)

    assert chunks_of_positions(service, ["the last", "first"], first_is_taken.set) == [[1], [0]]


def test_large_texts_come_in_small_requests():
    """A text of the largest size stands alone; those of half of it share a request, and small ones still do."""
    service = Service()
    texts = ["a" * REQUEST_BYTES, "b" * (2 * REQUEST_BYTES), *("c" * (REQUEST_BYTES // 2) for _ in range(3)), "d", "e"]
    embed(service, texts)
    assert sorted(sorted(text[0] for text in request) for request in service.requests) == [
        ["a"], ["b"], ["c", "c"], ["c", "d", "e"],
    ]  # fmt: skip


def chunks_of_positions(service, texts, taken=lambda: None):
    """Of texts that are sent one by one; `taken` is called after each chunk."""
    found = []
    settings = load_settings(embedding_batch_texts=1)
    with EmbeddingClient(settings, SPACE, Patience(), httpx.MockTransport(service)) as client:
        for chunk in client.embed(texts):
            found.append(sorted(position for position, _ in chunk))
            taken()
    return found


def test_no_texts_no_request():
    service = Service()
    assert embed(service, []) == []
    assert service.requests == []


@pytest.mark.parametrize("status", [413, 422])
def test_a_refused_text_costs_only_itself(status):
    results = embed(Service(refused=["b", "d"], refusal=status), ["a", "b", "c", "d", "e"])
    assert [isinstance(result, Rejected) for result in results] == [False, True, False, True, False]
    assert (results[1].stage, results[1].code) == ("embed", "text_blank")


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_one_poison_is_found_and_confirmed_with_2_log2_n_extra_calls(size):
    texts = [f"text {n:03}" for n in range(size)]
    for guilty in range(size):
        service = Service(poison=[texts[guilty]])
        results = embed(service, texts, batch=size)
        assert [n for n, result in enumerate(results) if isinstance(result, Rejected)] == [guilty]
        assert results[guilty].code == "service_failed"
        assert len(service.requests) - 1 <= 2 * math.log2(size)


@hypothesis.settings(deadline=None, max_examples=40)
@given(st.integers(1, 64).flatmap(lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1)))))
def test_any_poisons_are_charged_and_nobody_else(case):
    size, poisons = case
    texts = [f"text {n:03}" for n in range(size)]
    for service in (Service(poison=[texts[n] for n in poisons]), Crashing(poison=[texts[n] for n in poisons])):
        results = embed(service, texts)
        assert {n for n, result in enumerate(results) if isinstance(result, Rejected)} == poisons
        assert len(service.requests) - 1 <= len(poisons) * (math.ceil(math.log2(size)) + 5)


@hypothesis.settings(deadline=None)
@given(
    st.integers(1, 64).flatmap(lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1), max_size=3))),
    st.integers(0, 40),
)
def test_a_single_failure_at_any_point_is_charged_to_nobody(case, at):
    size, poisons = case
    texts = [f"text {n:03}" for n in range(size)]
    results = embed(Blinking(at, poison=[texts[n] for n in poisons]), texts)
    assert {n for n, result in enumerate(results) if isinstance(result, Rejected)} == poisons


def test_a_passing_fault_is_charged_to_nobody():
    internal = httpx.Response(500)
    results = embed(Service(answers=[internal, internal, None]), ["a", "bb"])
    assert not any(isinstance(result, Rejected) for result in results)


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_a_text_that_kills_the_service_is_found_across_its_restarts(size):
    texts = [f"text {n:03}" for n in range(size)]
    for guilty in {0, size // 2, size - 1}:
        results = embed(Crashing(poison=[texts[guilty]], down=3), texts)
        assert [n for n, result in enumerate(results) if isinstance(result, Rejected)] == [guilty]


def test_a_service_that_drops_connections_while_it_restarts_is_told_from_a_poison():
    """As behind a proxy that accepts them for it."""
    texts = [f"text {n:03}" for n in range(64)]
    for guilty in (0, 31, 63):
        results = embed(Crashing(poison=[texts[guilty]], down=4, while_down=httpx.ReadError), texts)
        assert [n for n, result in enumerate(results) if isinstance(result, Rejected)] == [guilty]


def test_a_service_that_fails_on_everything_is_asked_one_harmless_text_at_a_time():
    waits, service = [], Service(answers=[httpx.Response(500)] * 100)
    texts = [f"text {n:03}" for n in range(64)]
    assert not any(isinstance(result, Rejected) for result in embed(service, texts, waits=waits))
    assert len(waits) >= 97
    assert all(len(request) == 1 for request in service.requests[2:100])


def test_two_poisons_are_both_found():
    texts = [f"text {n:02}" for n in range(32)]
    results = embed(Service(poison=[texts[3], texts[20]]), texts)
    assert [n for n, result in enumerate(results) if isinstance(result, Rejected)] == [3, 20]


def test_a_lone_text_is_poison_only_if_the_service_answers_for_another():
    assert isinstance(embed(Service(poison=["a"]), ["a"])[0], Rejected)
    internal = httpx.Response(500, json={})
    results = embed(Service(answers=[internal, internal, internal, internal]), ["a"])
    assert not isinstance(results[0], Rejected)


TROUBLE = {
    "busy": httpx.Response(429, headers={"Retry-After": "7"}, json={"error": {"code": "queue_full"}}),
    "draining": httpx.Response(503),
    "unauthorized": httpx.Response(401),
    "not found": httpx.Response(404),
    "garbage": httpx.Response(200, content=b"<html>"),
    "too few vectors": httpx.Response(200, json=body([])),
    "no token counts": httpx.Response(200, json=body(["a", "b"], token_counts=None)),
    "not finite": httpx.Response(200, json=body(["a", "b"], embeddings=base64.b64encode(b"\xff" * 24).decode())),
    "another model": httpx.Response(200, json=body(["a", "b"], model_revision="r2")),
    "internal": httpx.Response(500),
}


@pytest.mark.parametrize("answer", TROUBLE.values(), ids=TROUBLE)
def test_trouble_of_the_service_is_waited_out_and_charged_to_no_text(answer):
    waits = []
    results = embed(Service(answers=[answer] * 4), ["a", "bb"], waits=waits)
    assert not any(isinstance(result, Rejected) for result in results)
    assert waits


@pytest.mark.parametrize(
    "error", [httpx.ConnectError, httpx.ReadTimeout, httpx.ConnectTimeout, httpx.RemoteProtocolError]
)
def test_broken_connections_are_waited_out(error):
    def fail():
        raise error("x")

    results = embed(Service(answers=[fail] * 5), ["a", "bb"])
    assert not any(isinstance(result, Rejected) for result in results)


@pytest.mark.parametrize("most", [1, 5, 64])
def test_a_request_that_times_out_is_halved_until_it_makes_progress(most):
    waits, service = [], Slow(most)
    texts = [f"text {n:03}" for n in range(64)]
    for text, result in zip(texts, embed(service, texts, waits=waits), strict=True):
        assert result.vector.tolist() == np.array(vector(text), np.float32).tolist()
    assert len(waits) == math.ceil(math.log2(64 / most))


def test_a_text_that_times_out_again_and_again_is_waited_for():
    waits, texts = [], [f"text {n:03}" for n in range(64)]
    results = embed(Slow(64, stuck=texts[40], times=200), texts, waits=waits)
    assert not any(isinstance(result, Rejected) for result in results)
    assert len(waits) == 200


def test_a_refusal_after_a_time_out_names_the_right_text():
    service = Slow(4)
    service.refused = ["text 5"]
    results = embed(service, [f"text {n}" for n in range(8)])
    assert [n for n, result in enumerate(results) if isinstance(result, Rejected)] == [5]


def test_retry_after_is_honoured_with_jitter():
    waits = []
    embed(Service(answers=[TROUBLE["busy"]]), ["a"], waits=waits)
    assert len(waits) == 1
    assert 7 <= waits[0] <= 10.5


def test_the_client_waits_for_a_service_with_another_model_and_says_what_to_do():
    transport = httpx.MockTransport(Service(answers=[TROUBLE["another model"]]))
    with (
        EmbeddingClient(load_settings(), SPACE, Patience(), transport) as client,
        pytest.raises(EmbeddingUnavailable, match="use another PGVECTOR_TABLE"),
    ):
        client.embed_query("ab")


def space_of(response):
    return embedding.read_space(load_settings(), httpx.MockTransport(lambda _: response))


def test_the_space_of_the_service():
    facts = {
        "model_name": "org/model", "model_revision": "r1", "embedding_dimension": 3, "normalised": True,
        "max_tokens": 256,
    }  # fmt: skip
    assert space_of(httpx.Response(200, json=facts)) == SPACE
    with pytest.raises(EmbeddingUnavailable, match="not ready"):
        space_of(httpx.Response(503, json=facts))
    with pytest.raises(ConfigError, match="set EMBEDDING_API_KEY"):
        space_of(httpx.Response(401))
    with pytest.raises(ConfigError, match="set EMBEDDING_SERVICE_URL"):
        space_of(httpx.Response(200, json={}))


def test_the_tokenizer_of_the_service():
    facts = {
        "model_name": "org/model", "model_revision": "r1", "max_tokens": 256, "reserved_tokens": 2,
        "tokenizer": {"model": {}},
    }  # fmt: skip
    assert tokenizer_of(httpx.Response(200, json=facts)) == Tokenizer('{"model": {}}', 256, 2)
    with pytest.raises(EmbeddingUnavailable, match="not ready"):
        tokenizer_of(httpx.Response(503))
    with pytest.raises(EmbeddingUnavailable, match="start the service with that model"):
        tokenizer_of(httpx.Response(200, json=facts | {"model_revision": "r2"}))
    with pytest.raises(ConfigError, match="shows no tokenizer"):
        tokenizer_of(httpx.Response(404))
    with pytest.raises(ConfigError, match="set EMBEDDING_SERVICE_URL"):
        tokenizer_of(httpx.Response(200, text="hello"))


def tokenizer_of(response):
    return embedding.read_tokenizer(load_settings(), SPACE, httpx.MockTransport(lambda _: response))


def test_nobody_at_the_service_s_address():
    with pytest.raises(EmbeddingUnavailable, match="start it, or set EMBEDDING_SERVICE_URL"):
        embedding.read_space(load_settings(embedding_service_url="http://127.0.0.1:1"))


@pytest.mark.parametrize("first", ["away", "another model", "starting"])
def test_of_two_addresses_the_one_is_taken_at_which_the_model_is(first):
    asked, waits = [], []

    def answer(request):
        asked.append(request.url.host)
        texts = json.loads(request.content)["texts"]
        if request.url.host == "set":
            if first == "away":
                raise httpx.ConnectError("x")
            return httpx.Response(503 if first == "starting" else 200, json={**body(texts), "model_name": "org/other"})
        return httpx.Response(200, json=body(texts))

    settings = load_settings(embedding_service_url="http://set")
    patience = Patience(sleep=waits.append)
    with EmbeddingClient(settings, SPACE, patience, httpx.MockTransport(answer), also="http://noted") as client:
        assert isinstance(client.embed_query("a"), embedding.Embedded)
        assert list(client.embed(["b"]))
    assert asked == ["set", "noted", "noted"]
    assert waits == []


def test_where_neither_address_has_the_model_both_are_asked_again():
    asked = []

    def answer(request):
        asked.append(request.url.host)
        texts = json.loads(request.content)["texts"]
        return httpx.Response(200, json=body(texts) | ({} if len(asked) > 4 else {"model_name": "org/other"}))

    settings = load_settings(embedding_service_url="http://set")
    patience = Patience(sleep=lambda _: None)
    with EmbeddingClient(settings, SPACE, patience, httpx.MockTransport(answer), also="http://noted") as client:
        with pytest.raises(EmbeddingUnavailable, match="org/other"):
            client.embed_query("a")
        assert list(client.embed(["b"]))
    assert set(asked[:2]) == set(asked[2:4]) == {"set", "noted"}
