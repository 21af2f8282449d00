"""The gateway before servers that keep their published limits, and before servers that do not behave."""

import json
import threading

import numpy as np
import pytest

from embedstream.errors import ConfigError
from embedstream.service.batching import EngineFailed
from embedstream.service.engine.tokens import Query
from embedstream.service.remote import judge as judge_module
from embedstream.service.remote.errors import Failed, Refused, Standstill, Stopped, TextRefused
from embedstream.service.remote.opening import check, open_gateway
from embedstream.settings import Settings
from support.remote import HANG, KEY, RESET, Azure, Ollama, OpenAi, Reply, Tei, transport, vector

HTML = Reply(502, b"<html><body>Bad Gateway</body></html>")
API = {OpenAi: "openai", Azure: "azure", Tei: "tei", Ollama: "ollama"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(judge_module, "_PROBES_AFTER", (0.0, 0.01))


@pytest.fixture
def opened():
    """Opens a gateway before a server; settings by name."""
    gateways = []

    def open_before(server, **settings):
        api = API[type(server)]
        url = None if api == "openai" else "http://remote.test"
        own = {"remote_api": api, "remote_url": url, "remote_model": server.model, "remote_key": server.key}
        settings = Settings(embedding_engine="remote", **{**own, **settings})
        found = open_gateway(settings, 100, lambda _: None, transport(server))
        gateways.append(found.gateway)
        return found

    yield open_before
    for each in gateways:
        each.drain(1)


def embed(opened, texts):
    return opened.gateway.submit(texts).result()


def waits_for(opened, texts=("a text",)):
    """What everybody is told."""
    with pytest.raises(Standstill) as caught:
        embed(opened, list(texts))
    return caught.value


@pytest.mark.parametrize("kind", API)
def test_texts_come_back_in_order_whatever_the_server_speaks(opened, kind):
    server = kind()
    texts = [f"text {number}" for number in range(70)]
    embedded = embed(opened(server), texts)
    assert np.allclose(embedded.vectors, [vector(text, server.dimension) for text in texts])
    assert embedded.token_counts == [None] * 70
    assert sum(server.sizes) == 70 + 8


def test_what_the_server_says_of_itself_makes_the_space(opened):
    tei, ollama = opened(Tei()).gateway.facts, opened(Ollama()).gateway.facts
    assert (tei.max_tokens, tei.engine, tei.precision, tei.fidelity) == (512, "remote", None, None)
    assert (ollama.model_name, ollama.max_tokens, ollama.embedding_dimension) == ("nomic-embed-text", 2048, 8)
    revisions = {
        tei.model_revision,
        opened(Tei(sha="another")).gateway.facts.model_revision,
        opened(Tei(), remote_prompt="passage: ").gateway.facts.model_revision,
        opened(Tei(), remote_query_prompt="query: ").gateway.facts.model_revision,
        opened(Tei(), remote_dimensions=8).gateway.facts.model_revision,
    }
    assert len(revisions) == 5
    assert opened(Tei()).gateway.facts == tei


def test_requests_keep_to_the_server_s_number_of_texts(opened):
    server = Tei()
    embed(opened(server), [f"text {number}" for number in range(100)])
    assert max(server.sizes) == 32


def test_prompts_stand_before_texts(opened):
    server = Ollama()
    found = opened(server, remote_prompt="search_document: ", remote_query_prompt="search_query: ")
    embed(found, ["a", Query("a")])
    assert server.embedded[-2:] == ["search_document: a", "search_query: a"]


def test_a_text_for_which_several_wait_is_asked_for_once(opened):
    server = OpenAi()
    found = opened(server)
    first = embed(found, ["same", "same", "other"])
    again = embed(found, ["other", "same"])
    assert np.array_equal(first.vectors[[2, 1]], again.vectors)
    assert server.embedded[8:] == ["same", "other"]


@pytest.mark.parametrize("kind", [OpenAi, Tei, Ollama])
def test_a_text_that_is_too_long_is_refused_by_its_number(opened, kind):
    server = kind()
    found = opened(server)
    with pytest.raises(TextRefused, match="too long") as caught:
        embed(found, ["a", "b", "long " * server.most_tokens, "c"])
    assert (caught.value.index, caught.value.code) == (2, "text_too_long")
    assert "long long" not in str(caught.value)
    assert np.allclose(embed(found, ["a", "c"]).vectors, [vector(text, 8) for text in "ac"])


def test_a_limit_that_nobody_told_is_learned(opened):
    server = OpenAi()
    server.twist = lambda texts: (
        server.error(400, "too many inputs", "invalid_request_error") if len(texts) > 10 else None
    )
    found = opened(server)
    embed(found, [f"text {number}" for number in range(64)])
    before = server.requests
    embed(found, [f"other {number}" for number in range(64)])
    assert server.requests - before <= 8


def test_base64_is_asked_for_and_float_where_the_server_has_no_other(opened):
    server = OpenAi()
    refusal = server.error(400, "unknown encoding", "invalid_request_error")
    asked = []
    plain = server.refusal
    server.refusal = lambda body: (
        asked.append(body["encoding_format"]) or (refusal if body["encoding_format"] == "base64" else plain(body))
    )
    found = opened(server)
    embed(found, ["a"])
    assert asked == ["base64", "float", "float"]


def test_the_order_is_that_of_the_numbers(opened):
    server = OpenAi()
    whole = server.vectors

    def backwards(asked):
        reply = whole(asked)
        return reply._replace(content={**reply.content, "data": reply.content["data"][::-1]})

    server.vectors = backwards
    assert np.allclose(embed(opened(server), ["a", "b"]).vectors, [vector("a", 8), vector("b", 8)])


def answers(server, change):
    """Has the server change the vectors of its answers, once it is open."""
    whole = server.vectors

    def vectors(asked):
        server.form = lambda row, _: row.tolist()
        return whole(asked)._replace(content=change(whole(asked).content))

    server.vectors = vectors


def with_rows(change):
    def changed(content):
        data = [{**entry, "embedding": change(entry["embedding"])} for entry in content["data"]]
        return {**content, "data": data}

    return changed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (with_rows(lambda row: [0.0] * len(row)), "zero"),
        (with_rows(lambda row: [float("nan"), *row[1:]]), "finite"),
        (with_rows(lambda row: [None, *row[1:]]), "finite"),
        (lambda content: {**content, "data": content["data"][:-1]}, "vectors"),
        (lambda _: {"error": {"message": "overloaded", "type": "server_error"}}, "an error (server_error)"),
        (lambda _: b"<html>Welcome to the hotel</html>", "no JSON"),
    ],
)
def test_a_server_that_answers_nonsense_stands_everything_still(opened, change, says):
    server = OpenAi()
    found = opened(server)
    answers(server, change)
    told = waits_for(found, ["a", "b"])
    assert (told.code, told.status) == ("remote_failing", 503)
    assert says in str(told)


def test_numbers_that_repeat_have_texts_asked_for_one_by_one(opened):
    server = OpenAi()
    found = opened(server)
    answers(server, lambda content: {**content, "data": [{**each, "index": 0} for each in content["data"]]})
    assert np.allclose(embed(found, ["a", "b"]).vectors, [vector("a", 8), vector("b", 8)])


def test_another_dimension_after_a_while_is_another_space(opened):
    server = OpenAi()
    found = opened(server)
    server.dimension = 16
    told = waits_for(found)
    assert told.code == "space_moved"
    assert "16 dimensions" in str(told)


@pytest.mark.parametrize("reply", [RESET, HANG, HTML, Reply(500, b"")])
def test_a_server_that_is_away_stands_everything_still_until_it_is_back(opened, reply):
    server = OpenAi()
    found = opened(server)
    server.twist = lambda _: reply
    told = waits_for(found)
    assert (told.code, told.status) == ("remote_failing", 503)
    requests = server.requests
    with pytest.raises(Standstill):
        found.gateway.submit(["others are not sent"])
    assert server.requests == requests
    server.twist = None
    found.watch.look()
    assert np.allclose(embed(found, ["a"]).vectors, [vector("a", 8)])


def test_the_end_of_a_quota_is_no_storm(opened):
    server = OpenAi()
    found = opened(server)
    server.twist = lambda _: server.out_of_quota()
    told = waits_for(found)
    assert told.code == "remote_quota"
    for _ in range(50):
        with pytest.raises(Standstill, match="quota is used up"):
            found.gateway.submit(["a"])
    assert server.requests <= 3


def test_a_key_that_ends_is_told_and_never_shown(opened, caplog):
    server = OpenAi()
    found = opened(server)
    server.key = "another"
    told = waits_for(found)
    assert told.code == "remote_unauthorized"
    assert "REMOTE_KEY" in str(told)
    assert KEY not in str(told) + caplog.text
    assert "sk-a" not in str(told)


def test_one_text_on_which_the_server_fails_is_found_among_many(opened):
    server = OpenAi()
    found = opened(server)
    server.twist = lambda texts: Reply(500, b"") if any("poison" in text for text in texts) else None
    with pytest.raises(EngineFailed) as caught:
        embed(found, [*(f"text {number}" for number in range(20)), "poison"])
    assert caught.value.index == 20
    assert len(embed(found, [f"text {number}" for number in range(20)]).vectors) == 20


def test_what_llama_cpp_says_of_a_long_text_counts_as_too_long(opened):
    server = OpenAi()
    message = "input (535 tokens) is too large to process. increase the physical batch size"
    server.twist = lambda texts: (
        Reply(500, {"error": {"code": 500, "message": message, "type": "server_error"}})
        if any(len(text) > 500 for text in texts)
        else None
    )
    with pytest.raises(TextRefused) as caught:
        embed(opened(server), ["a", "b" * 501])
    assert (caught.value.index, caught.value.code) == (1, "text_too_long")


def test_a_refusal_of_every_text_is_nobody_s_fault(opened):
    """A parameter that the server does not know is no reason for dead letters."""
    server = OpenAi()
    found = opened(server)
    server.twist = lambda _: server.error(400, "dimensions is not supported", "invalid_request_error")
    told = waits_for(found, ["a", "b", "c"])
    assert told.code == "remote_refuses"
    assert "dimensions is not supported" in str(told)


def test_a_text_that_alone_is_refused_is_refused_by_its_number(opened):
    server = OpenAi()
    found = opened(server)
    server.twist = lambda texts: (
        server.error(400, f"no such thing: {texts}", "invalid_request_error") if "odd" in texts else None
    )
    with pytest.raises(TextRefused) as caught:
        embed(found, ["a", "odd"])
    assert (caught.value.index, caught.value.code) == (1, "text_refused")
    assert "no such thing" not in str(caught.value)


def test_a_server_whose_vectors_moved_is_not_mixed_in(opened):
    server = OpenAi()
    found = opened(server)
    server.seed = "a new model "
    found.watch.look()
    told = waits_for(found)
    assert told.code == "space_moved"
    server.seed = ""
    found.watch.look()
    assert len(embed(found, ["a"]).vectors) == 1


def test_an_ollama_that_pulled_another_model_is_not_mixed_in(opened):
    server = Ollama()
    found = opened(server)
    server.digest = "f" * 64
    found.watch.look()
    assert waits_for(found).code == "space_moved"


def test_the_day_s_limit_ends_the_day_s_work(opened, tmp_path):
    usage = tmp_path / "usage.json"
    settings = {"remote_tokens_per_day": 200, "remote_usage_file": usage, "remote_price": 0.02}
    server = OpenAi()
    found = opened(server, **settings)
    embed(found, ["a " * 100])
    told = waits_for(found, ["b " * 200])
    assert (told.code, told.status) == ("daily_limit", 429)
    assert "REMOTE_TOKENS_PER_DAY=200" in str(told)
    assert told.retry_after > 1
    tokens = json.loads(usage.read_text())["tokens"]
    assert 100 < tokens <= 200
    again = opened(server, **settings)
    assert again.gateway.usage.tokens_today > tokens
    assert again.shown(Settings(**settings))["today"]["cost"] == pytest.approx(
        0.02e-6 * again.gateway.usage.tokens_today
    )


def test_a_text_that_no_day_has_room_for_ends_no_day(opened):
    found = opened(OpenAi(), remote_tokens_per_day=1000)
    with pytest.raises(TextRefused, match="more than REMOTE_TOKENS_PER_DAY=1000") as caught:
        embed(found, ["a", "b " * 3000])
    assert caught.value.index == 1
    assert len(embed(found, ["a", *(f"text {number}" for number in range(50))]).vectors) == 51


def test_the_end_finishes_what_was_accepted(opened):
    server, gate = OpenAi(), threading.Event()
    found = opened(server)
    server.twist = lambda _: None if gate.wait(20) else HTML
    pending = found.gateway.submit(["a", "b"])
    threading.Timer(0.1, gate.set).start()
    assert found.gateway.drain(10)
    assert len(pending.result().vectors) == 2


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"remote_model": None}, "REMOTE_MODEL"),
        ({"remote_api": "tei", "remote_url": None}, "REMOTE_URL"),
        ({"embedding_precision": "int8"}, "EMBEDDING_PRECISION"),
        ({"remote_tokenizer": "/nowhere/tokenizer.json"}, "REMOTE_TOKENIZER"),
    ],
)
def test_what_is_not_set_is_named(settings, says):
    with pytest.raises(ConfigError, match=says):
        check(Settings(embedding_engine="remote", **{"remote_model": "m", **settings}))


def test_a_dimension_that_the_server_does_not_give_is_refused(opened):
    with pytest.raises(ConfigError, match="REMOTE_DIMENSIONS is 4, but the remote server gives vectors of 8"):
        opened(Ollama(), remote_dimensions=4)


def test_a_model_of_unknown_length_needs_to_be_told(opened):
    with pytest.raises(ConfigError, match="REMOTE_TEXT_TOKENS"):
        opened(OpenAi("intfloat/e5-mistral"))
    assert opened(OpenAi("intfloat/e5-mistral"), remote_text_tokens=512).gateway.facts.max_tokens == 512


@pytest.mark.parametrize(
    ("server", "settings", "error", "says"),
    [
        (OpenAi(), {"remote_key": "wrong"}, Stopped, "REMOTE_KEY"),
        (OpenAi(), {"remote_model": "text-embedding-4"}, Stopped, "REMOTE_MODEL"),
        (OpenAi(), {"remote_url": "https://api.openai.com"}, Stopped, "REMOTE_URL"),
        (Ollama(), {"remote_model": "other"}, Stopped, "ollama pull other"),
        (Tei(), {"remote_model": "other"}, Stopped, "embeds with BAAI"),
        (Tei(), {"remote_api": "ollama"}, Stopped, "404"),
        (Ollama(), {"remote_api": "tei"}, Stopped, "404"),
    ],
)
def test_a_server_that_is_not_what_was_meant_is_named(opened, server, settings, error, says):
    with pytest.raises(error, match=says):
        opened(server, **settings)


@pytest.mark.parametrize(("reply", "error"), [(HTML, Failed), (Reply(400, {"error": "no"}), Refused)])
def test_a_server_that_does_not_answer_at_first_is_told(opened, reply, error):
    server = OpenAi()
    server.twist = lambda _: reply
    with pytest.raises(error):
        opened(server)
