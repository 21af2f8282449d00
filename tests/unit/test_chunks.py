import hashlib
import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from embedstream.decode import chunks as module
from embedstream.decode.blank import is_blank
from embedstream.decode.chunks import MAX_CHUNKS, Splitter
from embedstream.decode.message import embedded_text
from embedstream.decode.spec import Chunks
from embedstream.errors import ConfigError, Rejected
from embedstream.service.engine.model import find_model
from embedstream.service.engine.tokens import TextTokenizer
from support.service import MINILM
from support.tiny import MODELS
from support.tokenizers import described, tiny, words

PROSE = "\n\n".join(
    " ".join(f"Paragraph {n} tells, in sentence {m}, of parcel {n * m} and of what became of it." for m in range(9))
    for n in range(30)
)


@pytest.fixture(scope="module")
def minilm():
    return described()


@pytest.fixture(scope="module")
def splitter(minilm):
    return Splitter(Chunks(), minilm)


SMALL = Splitter(Chunks(tokens=16), words())
OVERLAPPING = Splitter(Chunks(tokens=20, overlap=5), words())
PIECES = st.sampled_from(
    ["word ", "e\u0301", "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\r\n", "\n\n", "\u200b", " ", "\t", "Full. "]
)
TEXTS = st.one_of(st.text(max_size=300), st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=120).map("".join))


@given(TEXTS)
@example("")
@example(" \r\n\u200b ")
def test_whatever_can_be_seen_of_a_document_is_in_a_chunk(text):
    for splitter in (SMALL, OVERLAPPING):
        found = splitter.split(text)
        assert [chunk.seq for chunk in found] == list(range(len(found)))
        covered = bytearray(len(text))
        for chunk in found:
            assert text[chunk.start : chunk.end] == chunk.text
            assert not is_blank(chunk.text)
            covered[chunk.start : chunk.end] = b"\1" * len(chunk.text)
        left_out = "".join(character for character, seen in zip(text, covered, strict=True) if not seen)
        assert is_blank(left_out)
        assert len({chunk.key for chunk in found}) == len(found)
        assert found == splitter.split(text)


@pytest.mark.parametrize("text", ["", " \r\n\t", "\u200b\u00ad"])
def test_a_document_with_nothing_to_see_has_no_chunks(splitter, text):
    assert splitter.split(text) == []


def test_a_text_that_fits_is_one_chunk(splitter):
    text = "  Where is my parcel?\r\n"
    [chunk] = splitter.split(text)
    assert chunk[1:] == (0, 2, 21, "Where is my parcel?")
    assert chunk.key == hashlib.sha256(b"Where is my parcel?").digest() + bytes(4)


def test_the_model_reads_every_chunk_whole(splitter, minilm):
    tokenize = TextTokenizer(find_model(MINILM))
    found = splitter.split(PROSE)
    counts = [tokens.total for tokens in tokenize([chunk.text for chunk in found])]
    assert len(found) > 20
    assert max(counts) <= minilm.max_tokens
    assert min(counts[:-1]) > minilm.max_tokens // 2


@pytest.mark.parametrize("name", ["roberta", "xlm-roberta", "mpnet"])
def test_chunks_fit_with_their_prefix_whatever_the_tokenizer(name):
    tokenizer = tiny(name)
    tokenize = TextTokenizer(find_model(str(MODELS / name)))
    splitter = Splitter(Chunks(), tokenizer)
    title = "a title of a few words"
    found = splitter.split("the cat sat on the mat and looked at a dog. " * 40, title)
    counts = [tokens.total for tokens in tokenize([embedded_text(title, chunk.text) for chunk in found])]
    assert max(counts) <= tokenizer.max_tokens


def test_a_tokenizer_that_truncates_does_not_make_one_chunk_of_everything(minilm):
    shipped = json.loads(minilm.json)
    shipped["truncation"] = {"direction": "Right", "max_length": 128, "strategy": "LongestFirst", "stride": 0}
    shipped["padding"] = {
        "strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "[PAD]",
    }  # fmt: skip
    truncating = Splitter(Chunks(), minilm._replace(json=json.dumps(shipped)))
    assert truncating.split(PROSE) == Splitter(Chunks(), minilm).split(PROSE)
    assert truncating.identity == Splitter(Chunks(), minilm).identity


def test_equal_chunks_have_keys_of_their_own():
    same = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen."
    found = SMALL.split("\n\n".join([same] * 3))
    assert [chunk.text for chunk in found] == [same] * 3
    digest = hashlib.sha256(same.encode()).digest()
    assert [chunk.key for chunk in found] == [digest + n.to_bytes(4) for n in range(3)]


def test_the_prefix_is_part_of_the_key_but_not_of_the_text(splitter):
    [plain], [titled] = splitter.split("Where is it?"), splitter.split("Where is it?", "Parcels")
    assert titled[1:] == plain[1:]
    assert titled.key[:32] == hashlib.sha256(b"Parcels\n\nWhere is it?").digest() != plain.key[:32]


def test_a_chunk_leaves_room_for_its_prefix():
    splitter = Splitter(Chunks(tokens=64), words())
    for title_words in (1, 16, 17, 30):
        longest = max(len(chunk.text.split()) for chunk in splitter.split("word " * 500, "title " * title_words))
        assert longest == 64 - 16 * -(-title_words // 16)


def test_a_prefix_that_leaves_no_room_is_a_reason_to_reject():
    splitter = Splitter(Chunks(tokens=64), words())
    with pytest.raises(Rejected, match=r"chunks\.prefix gives leaves less than 16 of a chunk's 64 tokens") as caught:
        splitter.split("some text", "title " * 49)
    assert (caught.value.stage, caught.value.code) == ("decode", "chunk_prefix_too_long")


def test_overlapping_chunks_share_their_ends():
    found = OVERLAPPING.split("".join(f"w{n} " for n in range(100)))
    assert all(1 <= len(set(one.text.split()) & set(two.text.split())) <= 5 for one, two in zip(found, found[1:]))  # noqa: B905, RUF007


def test_an_edit_leaves_most_chunks_as_they_were(splitter):
    before = splitter.split(PROSE)
    place = len(PROSE) // 10
    place = PROSE.index(". ", place) + 2
    after = splitter.split(PROSE[:place] + "This sentence was not there. " + PROSE[place:])
    new = {chunk.key for chunk in after} - {chunk.key for chunk in before}
    assert len(before) > 20
    assert len(new) <= 2


def test_an_edit_of_a_document_of_many_pieces_stays_local():
    text = " ".join(f"Sentence {n * 7919 % 10007} is of {n} words." for n in range(10_000))
    before, after = SMALL.split(text[:200_000]), SMALL.split("A new beginning. " + text[:200_000])
    new = {chunk.key for chunk in after} - {chunk.key for chunk in before}
    assert len(new) < len(after) / 10


def test_too_many_chunks_are_a_reason_to_reject():
    assert 3900 < len(SMALL.split("word " * 16 * 4000)) <= MAX_CHUNKS
    with pytest.raises(Rejected, match=f"more than {MAX_CHUNKS} chunks") as caught:
        SMALL.split("word " * 16 * 10_000)
    assert caught.value.code == "too_many_chunks"


SIGNS = {
    "a": "a",
    "han": "\u6f22",
    "emoji": "\U0001f389",
    "accent": "e\u0301",
    "words": "word ",
    "lines": "a\n",
    "unseen": "\u200b",
}


@pytest.mark.parametrize("sign", SIGNS.values(), ids=SIGNS)
def test_the_time_grows_no_faster_than_the_text(splitter, sign):
    """A splitter that is given all at once takes minutes for a MiB of Chinese."""
    took = []
    for characters in (2**14, 2**16):
        text = (sign * characters)[:characters]
        began = time.process_time()
        splitter.split(text)
        took.append(time.process_time() - began)
    assert took[1] < 0.5 + 4 * 4 * took[0]


def test_the_identity_names_what_boundaries_depend_on(minilm):
    identity = Splitter(Chunks(tokens=100, overlap=10), minilm).identity
    assert "semantic-text-splitter 0." in identity
    assert ", 100 tokens, overlap 10, tokenizer " in identity
    identities = {
        Splitter(Chunks(), minilm).identity, Splitter(Chunks(overlap=1), minilm).identity,
        Splitter(Chunks(tokens=253), minilm).identity, Splitter(Chunks(), words()).identity, identity,
    }  # fmt: skip
    assert len(identities) == 5
    assert Splitter(Chunks(prefix="value.title", tokens=254), minilm).identity == Splitter(Chunks(), minilm).identity


@pytest.mark.parametrize("tokens", [255, 1000])
def test_more_tokens_than_the_model_reads_are_refused(minilm, tokens):
    with pytest.raises(ConfigError, match=rf"chunks\.tokens is {tokens}, but the model reads 254 .* from 16 to 254"):
        Splitter(Chunks(tokens=tokens), minilm)


@pytest.mark.parametrize("wrong", [{"tokens": 15}, {"overlap": -1}, {"tokens": 20, "overlap": 11}, {"tokens": "100"}])
def test_chunks_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        Chunks(**wrong)


def test_overlap_of_more_than_half_of_what_the_model_reads_is_refused(minilm):
    with pytest.raises(ConfigError, match=r"chunks\.overlap is 128"):
        Splitter(Chunks(overlap=128), minilm)


def test_a_tokenizer_without_a_filler_counts_bytes(monkeypatch):
    monkeypatch.setattr(module, "_FILLERS", ())
    splitter = Splitter(Chunks(tokens=64), words())
    assert max(len(chunk.text.split()) for chunk in splitter.split("word " * 500, "a title")) == 48
