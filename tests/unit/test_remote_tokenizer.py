"""The gateway with the remote model's own tokenizer at hand."""

import numpy as np
import pytest

from embedstream.errors import ConfigError
from embedstream.service.engine.fake import HashEngine
from embedstream.service.engine.tokens import Query
from embedstream.service.remote.opening import open_gateway
from embedstream.service.remote.texts import Texts
from embedstream.settings import Settings
from support.remote import OpenAi, transport, vector
from support.tiny import MODELS

LONGEST = 6
# Between two special tokens; WordPiece, of which a word may have several.
PIECES = MODELS / "distilbert" / "tokenizer.json"


@pytest.fixture
def words(tmp_path):
    """A tokenizer.json by which each word is a token, and nothing is added."""
    path = tmp_path / "tokenizer.json"
    path.write_text(HashEngine(4).tokenizer.json)
    return path


@pytest.fixture
def server():
    """It would refuse a text of more bytes than the tokenizer leaves of one."""
    return OpenAi(most_tokens=24)


@pytest.fixture
def gateway(words, server):
    settings = Settings(
        embedding_engine="remote", remote_model=server.model, remote_key=server.key, remote_tokenizer=words,
        remote_text_tokens=LONGEST,
    )  # fmt: skip
    gateway = open_gateway(settings, 100, lambda _: None, transport(server)).gateway
    yield gateway
    gateway.drain(1)


def test_tokens_are_counted_exactly(gateway):
    embedded = gateway.submit(["one", "one two", "one two three"]).result()
    assert embedded.token_counts == [1, 2, 3]


def test_a_text_too_long_is_cut_before_the_server_is_asked(gateway, server):
    text = " ".join(f"word{number}" for number in range(40))
    embedded = gateway.submit(["a", text, "b"]).result()
    whole = "word0 word1 word2 word3 word4 word5"
    assert server.embedded[8:] == ["a", whole, "b"]
    assert server.requests == 2
    assert embedded.token_counts == [1, 40, 1]
    assert np.allclose(embedded.vectors[1], vector(whole, 8))


def test_chunks_can_be_made(gateway):
    assert (gateway.tokenizer.max_tokens, gateway.tokenizer.reserved_tokens) == (LONGEST, 0)


@pytest.mark.parametrize("text", ["a", "word " * 9, "unbelievable " * 9, "x" * 300, "\u65e5\u672c\u8a9e" * 9])
def test_what_is_sent_is_a_beginning_that_the_model_reads_whole(text):
    texts = Texts("passage: ", "query: ", 12, PIECES)
    for asked, prompt in ((text, "passage: "), (Query(text), "query: ")):
        prepared = texts.prepare(asked)
        assert (prompt + text).startswith(prepared.sent)
        assert texts.prepare(prepared.sent.removeprefix(prompt)).token_count <= 12
        assert prepared.token_count == texts.prepare(text).token_count or asked is not text


def test_a_prompt_that_leaves_no_room_is_refused():
    with pytest.raises(ConfigError, match="REMOTE_TOKENIZER's own tokens take up: set REMOTE_TEXT_TOKENS higher"):
        Texts("a prompt of some words: ", "", 4, PIECES)


def test_a_file_that_is_no_tokenizer_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"REMOTE_TOKENIZER=.*tokenizer\.json cannot be read as a tokenizer\.json"):
        Texts("", "", 4, tmp_path / "tokenizer.json")
