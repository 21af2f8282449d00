"""What a model sees of a text, with small tokenizers of every kind."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from embedstream.service.engine.tokens import Query, TextTokenizer

SPECIAL = {"<s>": 0, "</s>": 1, "<unk>": 2}


class Described:
    """What TextTokenizer asks of a model."""

    name = "described"
    special_tokens = True
    max_tokens = 16
    lower_case = False

    def __init__(self, path, prefix="", query_prefix=""):
        self.tokenizer = path
        self.prefix = prefix
        self.query_prefix = query_prefix


def word_piece():
    """As BERT's: no accents, no controls, and one token for every word without pieces."""
    words = ["hello", "##o", "a", "1", "query", "passage", ":", "\u2581"]
    tokenizer = Tokenizer(models.WordPiece(SPECIAL | numbered(words), unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def unigram(**options):
    """As XLM-RoBERTa's: a space is a piece."""
    pieces = [("<s>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), ("\u2581hello", -1.0), ("hello", -1.5)]
    pieces += [("\u2581query:", -1.0), ("\u2581passage:", -1.0), (":", -3.0), *options.pop("more", [])]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, **options))
    tokenizer.normalizer = normalizers.Replace("\u200b", " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def byte_level():
    """As RoBERTa's: every byte is a piece."""
    vocabulary = SPECIAL | numbered(sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def byte_fallback():
    return unigram(more=[(f"<0x{byte:02X}>", -9.0) for byte in range(256)], byte_fallback=True)


def numbered(words):
    return {word: number for number, word in enumerate(words, len(SPECIAL))}


@pytest.fixture
def tokenizer(tmp_path):
    """Makes a model's tokenizer of such a one, with a special token at both ends."""

    def make(kind, **prefixes):
        tokenizer = kind()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
        )
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        return TextTokenizer(Described(tmp_path / "tokenizer.json", **prefixes))

    return make


THAI = "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35"


@pytest.mark.parametrize(
    "prefixes", [{}, {"prefix": "passage: ", "query_prefix": "query: "}, {"prefix": "passage:"}], ids=str
)
@pytest.mark.parametrize(
    ("kind", "text", "unseen"),
    [
        (word_piece, "\u200b", "invisible"),
        (word_piece, "\u00ad\u200f", "invisible"),
        (word_piece, "\u0301\ufe0f", "invisible"),
        (word_piece, "\x00", "invisible"),
        (word_piece, THAI, "unknown"),
        (word_piece, f"{THAI} {THAI}", "unknown"),
        (word_piece, "\U0001f64f", "unknown"),
        (word_piece, "a" * 101, "unknown"),
        (word_piece, f"{THAI} hello", None),
        (word_piece, "\u2581", None),
        (word_piece, "hello", None),
        (word_piece, "a", None),
        (unigram, "\u200b", "invisible"),
        (unigram, "\u200b \u200b", "invisible"),
        (unigram, THAI, "unknown"),
        (unigram, f"{THAI} {THAI}", "unknown"),
        (unigram, f"{THAI} hello", None),
        (unigram, "hello", None),
        (byte_level, "\u200b", None),
        (byte_level, THAI, None),
        (byte_level, "a", None),
        (byte_fallback, THAI, None),
        (byte_fallback, "\u200b", "invisible"),
    ],
)
def test_a_text_of_which_nothing_is_seen_is_told(tokenizer, kind, text, unseen, prefixes):
    tokenize = tokenizer(kind, **prefixes)
    assert [tokens.unseen for tokens in tokenize([text, Query(text)])] == [unseen] * 2


def test_what_is_unknown_is_counted_in_the_whole_text(tokenizer):
    tokenize = tokenizer(word_piece)
    known, half, cut = tokenize(["hello", f"{THAI} hello {THAI}", "hello " + f"{THAI} " * 30])
    assert [(one.unknown, one.total) for one in (known, half, cut)] == [(0, 3), (2, 5), (30, 33)]
    assert cut.unseen is None


def test_what_counts_is_what_the_model_reads_of_a_long_text(tokenizer):
    [late] = tokenizer(word_piece)([f"{THAI} " * 30 + "hello"])
    assert (late.unseen, late.unknown, late.total) == ("unknown", 30, 33)


def test_ids_are_looked_at_as_texts_are(tokenizer):
    tokenize = tokenizer(word_piece)
    assert [tokens.unseen for tokens in tokenize([[2, 2], [2, 3], [0, 2, 1]])] == ["unknown", None, "unknown"]


def test_the_tokenizer_is_described_as_it_is_used(tmp_path):
    tokenizer = word_piece()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=4)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    model = Described(path, prefix="passage: ")
    model.lower_case = True
    json, max_tokens, reserved_tokens = TextTokenizer(model).described
    described = Tokenizer.from_str(json)
    assert (max_tokens, reserved_tokens) == (16, 2)
    assert described.truncation is None
    assert described.padding is None
    assert described.encode("HELLO \u00c9 a a a a").tokens[0] == "hello"
