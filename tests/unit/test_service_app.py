import base64
import hashlib
import json
import threading
import time

import numpy as np
import pytest

from embedstream.service.embedder import Embedder
from embedstream.service.engine.fake import HashEngine
from embedstream.service.engine.tokens import Query
from embedstream.service.http.app import create_app
from embedstream.settings import Settings

DIMENSION = 8


class PickyEngine(HashEngine):
    """Fails on batches with the word poison in them, and stops at a gate."""

    def __init__(self, poison=None, gate=None):
        super().__init__(DIMENSION, workers=1)
        self._poison = None if poison is None else self.tokenize([poison])[0].ids
        self._gate = gate

    def open_worker(self):
        def infer(texts):
            if self._gate:
                assert self._gate.wait(20)
            if self._poison is not None and any(np.array_equal(ids, self._poison) for ids in texts):
                raise RuntimeError("this batch is not for me")
            return self._vectors(texts)

        return infer


@pytest.fixture
def service():
    """Makes a client of the application over an engine; settings by name."""
    embedders = []

    def make(engine=None, *, requests=8, **settings):
        settings = Settings(**settings)
        embedder = Embedder(queue_texts=settings.embedding_queue_texts, requests=requests)
        embedder.start(engine or HashEngine(DIMENSION))
        embedders.append(embedder)
        return create_app(embedder, settings).test_client()

    yield make
    for embedder in embedders:
        embedder.drain(1)


@pytest.fixture
def client(service):
    return service()


def vector(text):
    engine = HashEngine(DIMENSION)
    return engine._vectors([engine.tokenize([text])[0].ids])[0]


def error_of(response, status, code, index=None):
    assert response.status_code == status, response.text
    assert response.content_type == "application/json"
    assert set(response.json) == {"error"}
    error = response.json["error"]
    assert set(error) == {"code", "message", "index"}
    assert (error["code"], error["index"]) == (code, index)
    assert error["message"]
    return error["message"]


def test_one_text_comes_back_with_all_its_facts(client):
    asked = {"id": "m-1", "text": "two words", "source": "mail", "metadata": {"a": [1, None]}, "timestamp": "whenever"}
    answer = client.post("/generate", json=asked).json
    assert answer.pop("embedding_timestamp").endswith("Z")
    assert answer.pop("embedding") == pytest.approx(vector("two words").tolist())
    assert answer == {
        "id": "m-1",
        "text": "two words",
        "embedding_dimension": DIMENSION,
        "model_name": "fake:8",
        "model_revision": "1",
        "source": "mail",
        "metadata": {"a": [1, None]},
        "token_count": 4,
        "truncated": False,
        "unknown_tokens": 0,
    }


def test_a_text_is_all_that_is_needed(client):
    answer = client.post("/generate", json={"text": "alone", "id": None}).json
    assert (answer["id"], answer["source"], answer["metadata"]) == (None, None, None)


@pytest.mark.parametrize("id", [0, 12, 1.5, "", "naïve 🎉"])
def test_ids_are_strings_or_numbers(client, id):
    assert client.post("/generate", json={"text": "a", "id": id}).json["id"] == id


def test_many_texts_as_floats(client):
    answer = client.post("/generate", json={"texts": ["a b", "c", "a b"]}).json
    assert list(answer) == [
        "model_name", "model_revision", "embedding_dimension", "embeddings", "token_counts", "truncated",
        "unknown_tokens",
    ]  # fmt: skip
    assert np.array_equal(np.float32(answer["embeddings"]), [vector("a b"), vector("c"), vector("a b")])
    assert (answer["token_counts"], answer["truncated"]) == ([4, 3, 4], [False] * 3)


def test_base64_holds_the_same_numbers_row_by_row(client):
    texts = [f"text {number}" for number in range(512)]
    answer = client.post("/generate", json={"texts": texts, "encoding_format": "base64"}).json
    rows = np.frombuffer(base64.b64decode(answer["embeddings"]), "<f4").reshape(512, DIMENSION)
    assert np.array_equal(rows, [vector(text) for text in texts])


def test_a_long_text_is_counted_whole_and_marked(client):
    answer = client.post("/generate", json={"texts": ["word " * 254, "word " * 255, "word " * 40_000]}).json
    assert answer["token_counts"] == [256, 257, 40_002]
    assert answer["truncated"] == [False, True, True]


@pytest.mark.parametrize("text", ["\x00", "a\x00b", "\x01", "\ufeff", "\U0010ffff", "🎉" * 50_000, '"\\', "x\u2028y"])
def test_odd_texts_are_texts(client, text):
    response = client.post("/generate", json={"texts": [text]})
    assert np.array_equal(np.float32(response.json["embeddings"]), [vector(text)])


@pytest.mark.parametrize("model", ["fake:8", None])
@pytest.mark.parametrize("rest", [{"text": "a"}, {"texts": ["a"]}])
def test_the_own_model_may_be_named(client, model, rest):
    assert client.post("/generate", json={"model": model, **rest}).status_code == 200


@pytest.mark.parametrize("model", ["fake:9", "", 7, ["fake:8"], {}])
@pytest.mark.parametrize("rest", [{"text": "a"}, {"texts": ["a"]}])
def test_another_model_is_refused(client, model, rest):
    message = error_of(client.post("/generate", json={"model": model, **rest}), 422, "other_model")
    assert "fake:8" in message


def test_a_model_may_be_named_without_its_organisation(service):
    engine = HashEngine(DIMENSION)
    object.__setattr__(engine.facts, "model_name", "someone/some-model")
    client = service(engine)
    for name in ("someone/some-model", "some-model"):
        assert client.post("/generate", json={"text": "a", "model": name}).status_code == 200
    error_of(client.post("/generate", json={"text": "a", "model": "someone"}), 422, "other_model")


BAD_TEXTS = [
    ("", "text_blank"),
    (" \t\n\u2003\u00a0", "text_blank"),
    (None, "text_not_a_string"),
    (7, "text_not_a_string"),
    (True, "text_not_a_string"),
    (["a"], "text_not_a_string"),
    ({"text": "a"}, "text_not_a_string"),
    ("half \ud83c here", "text_not_unicode"),
    ("\udf89", "text_not_unicode"),
]


@pytest.mark.parametrize(("text", "code"), BAD_TEXTS)
def test_a_bad_text_is_refused_by_its_index(client, text, code):
    error_of(client.post("/generate", json={"texts": ["fine", "fine too", text, ""]}), 422, code, 2)
    error_of(client.post("/generate", json={"text": text}), 422, code, 0)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"text=hello", "not_json"),
        (b'{"text": NaN}', "not_json"),
        (b'{"text": "a"} {"text": "b"}', "not_json"),
        (b'{"text": "a\nb"}', "not_json"),
        (b'{"text": ' + b"[" * 200_000, "not_json"),
        (b'{"id": ' + b"9" * 5_000 + b', "text": "a"}', "not_json"),
        (b'{"text": "\xff"}', "not_utf8"),
        ('{"text": "a"}'.encode("utf-16"), "not_utf8"),
        ('{"text": "a"}'.encode("utf-16-be"), "not_utf8"),
        ('{"text": "a"}'.encode("utf-32"), "not_utf8"),
        (b'\xef\xbb\xbf\xef\xbb\xbf{"text": "a"}', "not_json"),
        (b'"text"', "not_an_object"),
        (b"null", "not_an_object"),
        (b'[{"text": "a"}]', "not_an_object"),
        (b"{}", "text_missing"),
        (b'{"input": "a"}', "text_missing"),
        (b'{"text": "a", "texts": ["a"]}', "text_and_texts"),
        (b'{"texts": "a"}', "texts_not_a_list"),
        (b'{"texts": null}', "texts_not_a_list"),
        (b'{"texts": {"0": "a"}}', "texts_not_a_list"),
        (b'{"texts": []}', "no_texts"),
        (b'{"texts": ["a"], "encoding_format": "hex"}', "bad_encoding_format"),
        (b'{"texts": ["a"], "encoding_format": ["float"]}', "bad_encoding_format"),
        (b'{"texts": ["a"], "input_type": "document"}', "bad_input_type"),
        (b'{"text": "a", "input_type": ["query"]}', "bad_input_type"),
    ],
)
def test_a_malformed_body_is_refused(client, body, code):
    error_of(client.post("/generate", data=body, content_type="application/json"), 400, code)


def test_a_mark_of_the_byte_order_is_no_part_of_the_body(client):
    response = client.post("/generate", data=b'\xef\xbb\xbf{"text": "a"}', content_type="application/json")
    assert response.json["text"] == "a"


@pytest.mark.parametrize(
    ("encoding", "named"), [("utf-16", "UTF-16"), ("utf-16-le", "UTF-16-LE"), ("utf-32", "UTF-32")]
)
def test_another_encoding_is_named(client, encoding, named):
    body = '{"text": "a"}'.encode(encoding)
    message = error_of(client.post("/generate", data=body, content_type="application/json"), 400, "not_utf8")
    assert f"looks like {named}: send UTF-8" in message


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip"])
def test_a_content_encoding_that_is_not_known_is_refused(client, encoding):
    headers = {"Content-Encoding": encoding}
    for path in ("/generate", "/v1/embeddings"):
        message = error_of(client.post(path, json={"text": "a"}, headers=headers), 415, "unknown_content_encoding")
        assert "gzip" in message
    assert client.post("/generate", json={"text": "a"}, headers={"Content-Encoding": "identity"}).status_code == 200


class Sighted(HashEngine):
    """Sees nothing of texts with a question mark, and half of those with an exclamation mark."""

    def tokenize(self, texts):
        return [
            tokens._replace(
                unknown=tokens.total // 2 if "!" in text else 0,
                unseen={"?": "unknown", "??": "invisible"}.get(text),
            )
            for text, tokens in zip(texts, super().tokenize(texts), strict=True)
        ]


@pytest.mark.parametrize(("text", "code"), [("?", "text_unknown"), ("??", "text_invisible")])
def test_a_text_of_which_the_model_sees_nothing_is_refused_by_its_index(service, text, code):
    client = service(Sighted(DIMENSION))
    error_of(client.post("/generate", json={"text": text}), 422, code, 0)
    error_of(client.post("/generate", json={"texts": ["a"] * 70 + [text, "b"]}), 422, code, 70)
    error_of(embeddings(client, input=["a", text]), 422, code, 1)
    assert client.get("/health").json["queue_texts"] == 0


def test_what_the_vocabulary_does_not_know_is_counted(service):
    client = service(Sighted(DIMENSION))
    assert client.post("/generate", json={"text": "two words !"}).json["unknown_tokens"] == 2
    assert client.post("/generate", json={"texts": ["a", "two words !"]}).json["unknown_tokens"] == [0, 2]
    assert "embedding_unknown_tokens_total 4.0" in client.get("/metrics").text


class Marking(HashEngine):
    """Puts a prompt before queries, as models may."""

    def tokenize(self, texts):
        return super().tokenize([f"query: {text}" if isinstance(text, Query) else text for text in texts])


@pytest.mark.parametrize(
    ("fields", "seen"), [({}, "a"), ({"input_type": "passage"}, "a"), ({"input_type": "query"}, "query: a")]
)
def test_a_query_is_marked_for_the_model(service, fields, seen):
    client = service(Marking(DIMENSION))
    answer = client.post("/generate", json={"text": "a", **fields}).json
    assert (answer["text"], answer["embedding"]) == ("a", pytest.approx(vector(seen)))


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "nonsense", ""])
def test_another_content_type_is_refused(client, content_type):
    error_of(client.post("/generate", data=b'{"text": "a"}', content_type=content_type), 415, "not_application_json")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/vnd.api+json"])
def test_kinds_of_json_are_taken(client, content_type):
    assert client.post("/generate", data=b'{"text": "a"}', content_type=content_type).status_code == 200


@pytest.mark.parametrize(
    "field",
    [
        {"id": True},
        {"id": ["a"]},
        {"id": 10**30},
        {"id": "\ud800"},
        {"source": 7},
        {"source": "\ud800"},
        {"metadata": "a"},
        {"metadata": []},
        {"metadata": {"\udc00": 1}},
        {"metadata": {"n": 2**70}},
    ],
)
def test_what_cannot_be_sent_back_is_refused(client, field):
    error_of(client.post("/generate", json={"text": "a", **field}), 422, "bad_field")


def test_metadata_too_deep_to_send_back_is_refused(client):
    nested = {}
    for _ in range(400):
        nested = {"a": nested}
    error_of(client.post("/generate", json={"text": "a", "metadata": nested}), 422, "bad_field")


def test_a_text_over_the_limit_is_refused_by_its_index(service):
    client = service(max_text_bytes=10)
    assert client.post("/generate", json={"texts": ["x" * 10, "é" * 5]}).status_code == 200
    message = error_of(client.post("/generate", json={"texts": ["a", "é" * 5 + "x"]}), 413, "text_too_large", 1)
    assert "11" in message
    assert "10" in message


def test_a_body_over_the_limit_is_refused(service):
    client = service(embedding_max_request_bytes=1024)
    response = client.post("/generate", json={"texts": ["x" * 2000]})
    error_of(response, 413, "request_entity_too_large")


def test_more_texts_than_can_ever_wait_are_refused(service):
    client = service(embedding_queue_texts=3)
    assert client.post("/generate", json={"texts": ["a"] * 3}).status_code == 200
    error_of(client.post("/generate", json={"texts": ["a"] * 4}), 413, "too_many_texts")


@pytest.mark.parametrize("path", ["/", "/nothing", "/generate/x", "/health/x", "/static/app.py", "/%ff%00", "/..%2f"])
def test_other_paths_are_not_found(client, path):
    error_of(client.get(path), 404, "not_found")
    error_of(client.post(path, json={"text": "a"}), 404, "not_found")


@pytest.mark.parametrize(
    "path", ["/health", "/info", "/metrics", "/openapi.json", "/v1/models", "/v1/models/fake:8", "/v1/models/a/fake:8"]
)
def test_a_slash_at_the_end_changes_nothing(service, path):
    engine = HashEngine(DIMENSION)
    object.__setattr__(engine.facts, "model_name", "a/fake:8")
    client = service(engine)
    answers = [client.get(path + end) for end in ("", "/")]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert path == "/metrics" or answers[0].data == answers[1].data
    assert client.post("/generate/", json={"text": "a"}).json["text"] == "a"
    assert (
        embeddings(client, input="a").json
        == client.post("/v1/embeddings/", json={"model": "fake:8", "input": "a"}).json
    )


def test_the_models_are_the_one(client):
    listed = client.get("/v1/models").json
    [model] = listed["data"]
    assert (listed["object"], model["id"], model["object"], model["owned_by"]) == ("list", "fake:8", "model", "unknown")
    assert abs(model["created"] - time.time()) < 600
    assert client.get("/v1/models/fake:8").json == model
    error_of(client.get("/v1/models/text-embedding-3-small"), 404, "model_not_found")


def test_other_methods_are_named(client):
    response = client.get("/generate")
    error_of(response, 405, "method_not_allowed")
    assert set(response.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}
    error_of(client.delete("/health"), 405, "method_not_allowed")


def test_health_says_what_the_vectors_are(client):
    response = client.get("/health")
    assert response.status_code == 200
    assert response.json == {
        "status": "ready",
        "model_name": "fake:8",
        "model_revision": "1",
        "embedding_dimension": DIMENSION,
        "normalised": True,
        "max_tokens": 256,
        "engine": "hash",
        "precision": "f32",
        "fidelity": 1.0,
        "hub_commit": None,
        "batch_tokens": 768,
        "warnings": [],
        "queue_texts": 0,
    }


def test_the_tokenizer_has_a_tag(client):
    answer = client.get("/tokenizer")
    facts = answer.json
    assert (facts["model_name"], facts["max_tokens"], facts["reserved_tokens"]) == ("fake:8", 256, 2)
    assert facts["tokenizer"]["truncation"] is None
    assert answer.headers["ETag"] == f'"{hashlib.sha256(answer.data).hexdigest()}"'
    again = client.get("/tokenizer", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_a_model_without_a_tokenizer_of_its_own(service):
    engine = HashEngine(DIMENSION)
    engine.tokenizer = None
    error_of(service(engine).get("/tokenizer"), 404, "no_tokenizer")


def test_info_says_what_is_accepted(service):
    client = service(embedding_queue_texts=100, max_text_bytes=50, embedding_max_request_bytes=2048)
    info = client.get("/info").json
    assert info["limits"] == {
        "max_texts": 100, "max_text_bytes": 50, "max_request_bytes": 2048, "queue_texts": 100, "requests": 8,
    }  # fmt: skip
    assert (info["model_name"], info["threads"]) == ("fake:8", 2)


def test_a_service_that_loads_says_so():
    embedder = Embedder(queue_texts=8, requests=8)
    client = create_app(embedder, Settings()).test_client()
    error_of(client.get("/v1/models"), 503, "loading")
    response = client.get("/health")
    assert (response.status_code, response.json["status"], response.json["error"]["code"]) == (
        503,
        "loading",
        "loading",
    )
    for response in (client.post("/generate", json={"text": "a"}), client.get("/info")):
        error_of(response, 503, "loading")
        assert response.headers["Retry-After"] == "1"


def in_background(call):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    return thread, answers


def wait_for_queue(client, length):
    for _ in range(400):
        if client.get("/health").json["queue_texts"] == length:
            return
        threading.Event().wait(0.01)
    raise AssertionError(client.get("/health").json)


def test_a_full_queue_asks_for_patience(service):
    gate = threading.Event()
    client = service(PickyEngine(gate=gate), embedding_queue_texts=4)
    thread, answers = in_background(lambda: client.post("/generate", json={"texts": ["a", "b", "c"]}))
    wait_for_queue(client, 3)
    response = client.post("/generate", json={"texts": ["d", "e"]})
    error_of(response, 429, "queue_full")
    assert int(response.headers["Retry-After"]) >= 1
    gate.set()
    thread.join()
    assert answers[0].status_code == 200
    assert client.post("/generate", json={"texts": ["d", "e"]}).status_code == 200


def test_more_requests_than_may_wait_are_asked_for_patience(service):
    gate = threading.Event()
    client = service(PickyEngine(gate=gate), requests=1)
    thread, answers = in_background(lambda: client.post("/generate", json={"text": "a"}))
    wait_for_queue(client, 1)
    error_of(client.post("/generate", json={"text": "b"}), 429, "queue_full")
    gate.set()
    thread.join()
    assert answers[0].status_code == 200


def test_a_draining_service_finishes_what_it_accepted_and_takes_nothing_new():
    gate = threading.Event()
    embedder = Embedder(queue_texts=8, requests=8)
    embedder.start(PickyEngine(gate=gate))
    client = create_app(embedder, Settings()).test_client()
    asking, answers = in_background(lambda: client.post("/generate", json={"text": "a"}))
    wait_for_queue(client, 1)
    draining, finished = in_background(lambda: embedder.drain(20))
    while embedder.status != "draining":
        threading.Event().wait(0.01)
    error_of(client.post("/generate", json={"text": "b"}), 503, "draining")
    health = client.get("/health")
    assert (health.status_code, health.json["status"], health.json["model_name"]) == (503, "draining", "fake:8")
    gate.set()
    asking.join()
    draining.join()
    assert answers[0].json["text"] == "a"
    assert finished == [True]


def test_a_text_that_the_engine_fails_on_is_named_and_its_mates_in_other_requests_live(service, caplog):
    client = service(PickyEngine(poison="poison"))
    error_of(client.post("/generate", json={"texts": ["a", "poison", "b"]}), 500, "engine_failed", 1)
    assert client.post("/generate", json={"texts": ["a", "b"]}).status_code == 200
    assert "poison" not in caplog.text


def test_what_nobody_expected_is_told_without_details(service, monkeypatch, caplog):
    client = service()
    monkeypatch.setattr("embedstream.service.http.app.read_generate", lambda *_: 1 / 0)
    message = error_of(client.post("/generate", json={"text": "a"}), 500, "internal_error")
    assert "division" not in message
    assert "ZeroDivisionError" in caplog.text


def test_requests_are_logged_only_when_asked_for(service, caplog):
    client = service()
    client.get("/health")
    assert not caplog.records
    caplog.set_level("DEBUG")
    client.get("/health")
    assert caplog.messages[0].startswith("GET /health 200 ")


def test_what_is_sent_is_json_to_every_reader(client):
    body = client.post("/generate", json={"text": "naïve 🎉 \u2028 \x00"}).data
    assert json.loads(body)["text"] == "naïve 🎉 \u2028 \x00"


def embeddings(client, **body):
    return client.post("/v1/embeddings", json={"model": "fake:8", **body})


def ids_vector(ids):
    engine = HashEngine(DIMENSION)
    return engine._vectors([engine.tokenize([ids])[0].ids])[0]


def test_openai_s_shape(client):
    answer = embeddings(client, input=["two words", "word " * 300], user="u-1", unknown=1).json
    vectors = [item.pop("embedding") for item in answer["data"]]
    assert np.array_equal(np.float32(vectors), [vector("two words"), vector("word " * 300)])
    assert answer == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "truncated": False},
            {"object": "embedding", "index": 1, "truncated": True},
        ],
        "model": "fake:8",
        "usage": {"prompt_tokens": 306, "total_tokens": 306},
    }


@pytest.mark.parametrize(
    ("given", "vectors"),
    [
        ("a", [vector("a")]),
        (["a", "b"], [vector("a"), vector("b")]),
        ([1, 29_999], [ids_vector([1, 29_999])]),
        ([[1], [2, 3]], [ids_vector([1]), ids_vector([2, 3])]),
    ],
)
def test_all_forms_of_input(service, given, vectors):
    client = service(embedding_accept_token_ids=True)
    answer = embeddings(client, input=given, encoding_format="base64", dimensions=DIMENSION).json
    rows = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in answer["data"]]
    assert np.array_equal(rows, vectors)


@pytest.mark.parametrize(
    ("body", "status", "code", "index"),
    [
        ({}, 400, "input_missing", None),
        ({"input": 7}, 400, "bad_input", None),
        ({"input": {"a": 1}}, 400, "bad_input", None),
        ({"input": []}, 400, "no_texts", None),
        ({"input": "a", "encoding_format": "hex"}, 400, "bad_encoding_format", None),
        ({"input": ""}, 422, "text_blank", 0),
        ({"input": ["a", " "]}, 422, "text_blank", 1),
        ({"input": ["a", None]}, 422, "text_not_a_string", 1),
        ({"input": ["a", [1]]}, 422, "input_mixed", 1),
        ({"input": [[1], "a"]}, 422, "input_mixed", 1),
        ({"input": [[1], []]}, 422, "text_blank", 1),
        ({"input": [1, -1]}, 422, "bad_token", 0),
        ({"input": [[1], [30_000]]}, 422, "bad_token", 1),
        ({"input": [[1.5]]}, 422, "bad_token", 0),
        ({"input": [True]}, 422, "bad_token", 0),
        ({"input": [1, "a"]}, 422, "bad_token", 0),
        ({"input": "a", "dimensions": 4}, 422, "dimensions_not_supported", None),
        ({"input": "a", "dimensions": "8"}, 422, "dimensions_not_supported", None),
        ({"input": "a", "model": None}, 422, "model_missing", None),
        ({"input": "a", "model": "text-embedding-3-small"}, 404, "model_not_found", None),
        ({"input": "a", "model": ["fake:8"]}, 404, "model_not_found", None),
        ({"input": ["a"] * 3}, 413, "too_many_texts", None),
        ({"input": ["a", "x" * 101]}, 413, "text_too_large", 1),
        ({"input": [1] * 101}, 413, "text_too_large", 0),
    ],
)
def test_what_openai_s_path_refuses(service, body, status, code, index):
    client = service(embedding_max_texts=2, max_text_bytes=100, embedding_accept_token_ids=True)
    error_of(embeddings(client, **body), status, code, index)


@pytest.mark.parametrize("given", [[1, 2], [[1, 2]], [[1], [100_256]], ["a", [1]], [[]]])
def test_token_ids_are_refused_unless_they_are_asked_for(client, given):
    message = error_of(embeddings(client, input=given), 422, "token_ids_not_accepted")
    assert "check_embedding_ctx_length=False" in message
    assert "EMBEDDING_ACCEPT_TOKEN_IDS=true" in message


def test_the_number_of_texts_has_a_limit_of_its_own(service):
    client = service(embedding_max_texts=2)
    assert client.get("/info").json["limits"]["max_texts"] == 2
    error_of(client.post("/generate", json={"texts": ["a"] * 3}), 413, "too_many_texts")


def test_the_metrics_count_what_was_done(service):
    client = service(HashEngine(DIMENSION, workers=1, max_tokens=16))
    client.post("/generate", json={"texts": ["a", "b", "word " * 20]})
    embeddings(client, input="a")
    client.post("/generate", json={"text": ""})
    client.get("/nothing")
    response = client.get("/metrics")
    assert response.content_type.startswith("text/plain; version=0.0.4")
    lines = response.text.splitlines()
    for line in (
        'embedding_requests_total{path="/generate",status="200"} 1.0',
        'embedding_requests_total{path="/generate",status="422"} 1.0',
        'embedding_requests_total{path="/v1/embeddings",status="200"} 1.0',
        'embedding_requests_total{path="other",status="404"} 1.0',
        'embedding_refused_total{code="text_blank"} 1.0',
        'embedding_refused_total{code="not_found"} 1.0',
        "embedding_texts_total 4.0",
        "embedding_truncated_texts_total 1.0",
        "embedding_tokens_total 32.0",
        "embedding_padded_tokens_total 32.0",
        "embedding_padding_efficiency 1.0",
        "embedding_queue_texts 0.0",
    ):
        assert line in lines
    counts = {line.split()[0]: float(line.split()[1]) for line in lines if "_seconds_count" in line}
    assert counts["embedding_wait_seconds_count"] == counts["embedding_inference_seconds_count"] >= 2


def test_the_metrics_are_there_before_the_model_is():
    client = create_app(Embedder(queue_texts=8, requests=8), Settings()).test_client()
    client.post("/generate", json={"text": "a"})
    assert 'embedding_refused_total{code="loading"} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize("id", ["a", "0af7651916cd43dd", "!~" * 64])
def test_a_request_keeps_its_id(client, id):
    for path in ("/health", "/nothing"):
        assert client.get(path, headers={"X-Request-Id": id}).headers["X-Request-Id"] == id


@pytest.mark.parametrize("id", [None, "", "two words", "näïve", "x" * 129])
def test_a_request_without_a_usable_id_gets_one(client, id):
    headers = {} if id is None else {"X-Request-Id": id}
    ids = {client.get("/health", headers=headers).headers["X-Request-Id"] for _ in range(2)}
    assert len(ids) == 2
    assert id not in ids


def test_the_log_names_the_request(service, caplog, monkeypatch):
    client = service(PickyEngine(poison="poison"))
    caplog.set_level("DEBUG")
    client.post("/generate", json={"text": "poison"}, headers={"X-Request-Id": "r-1"})
    assert [record.levelname for record in caplog.records if getattr(record, "request_id", "")] == ["ERROR", "DEBUG"]
    assert {getattr(record, "request_id", "r-1") for record in caplog.records} == {"r-1"}


PATHS = [
    ("GET", "/info"),
    ("GET", "/tokenizer"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/nothing"),
    ("POST", "/generate"),
]


@pytest.mark.parametrize(
    ("method", "path"),
    [*PATHS, ("POST", "/v1/embeddings"), ("GET", "/v1/models"), ("GET", "/info/"), ("HEAD", "/info")],
)
@pytest.mark.parametrize("given", [None, "", "s3cret", "Bearer", "Bearer ", "Bearer s3cre", "Bearer é", "Basic s3cret"])
def test_without_the_key_there_is_no_answer(service, method, path, given):
    client = service(embedding_api_key="s3cret")
    response = client.open(path, method=method, headers={} if given is None else {"Authorization": given})
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert method == "HEAD" or response.json["error"]["code"] == "unauthorized"


def test_with_the_key_everything_is_as_without_one(service, caplog):
    caplog.set_level("DEBUG")
    client = service(embedding_api_key="s3cret")
    assert [client.get(path).status_code for path in ("/health", "/health/")] == [200, 200]
    for given in ("Bearer s3cret", "bearer  s3cret"):
        headers = {"Authorization": given}
        assert client.post("/generate", json={"text": "a"}, headers=headers).status_code == 200
        assert client.get("/nothing", headers=headers).status_code == 404
    assert "s3cret" not in client.get("/metrics", headers=headers).text + caplog.text
