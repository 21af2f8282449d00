import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstream.decode.default import decode
from embedstream.decode.formats import _decode, encode
from embedstream.decode.message import Delete, Message, Record, Rules, Version, content_hash
from embedstream.errors import Rejected

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
RULES = Rules(MODEL, 100)
NOW_MS = 1_764_000_000_123
NOW = datetime(2025, 11, 24, 16, 0, 0, 123_000, UTC)


def record(value, key=None, timestamp=NOW_MS):
    raw = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    return Record(key, raw, "text-messages", 2, 7, timestamp)


def message(value, **options) -> Message:
    decoded = decode(record(value, **options), RULES)
    assert isinstance(decoded, Message)
    return decoded


def test_a_message_with_everything():
    decoded = message(
        {
            "id": "a", "text": "hello", "timestamp": "2025-11-24T17:00:00+02:00", "model": "all-MiniLM-L6-v2",
            "metadata": {"n": 1}, "source": "web", "unknown": [1],
        }
    )  # fmt: skip
    said = datetime(2025, 11, 24, 15, 0, tzinfo=UTC)
    version = Version(said, "text-messages", 2, 7)
    assert decoded == Message("a", version, "hello", content_hash("hello"), said, "web", '{"n":1}')


def test_a_null_value_with_a_key_is_a_delete():
    assert decode(record(None, key=b"a"), RULES) == Delete("a", Version(NOW, "text-messages", 2, 7))


@pytest.mark.parametrize(
    ("value", "key", "id"),
    [
        ({"id": "é"}, b"k", "é"),
        ({"id": 7}, b"k", "7"),
        ({"id": -0.5}, b"k", "-0.5"),
        ({}, "ключ".encode(), "ключ"),
        ({"id": None}, b"k", "k"),
        ({}, None, "text-messages-2-7"),
        ({}, b"", "text-messages-2-7"),
        ({"id": "a"}, b"", "a"),
    ],
)
def test_where_the_id_comes_from(value, key, id):
    assert message({"text": "x", **value}, key=key).id == id


@pytest.mark.parametrize("number", ["12345678901234567890123", "1e2", "1.50", "0.1000000000000000055511"])
def test_a_number_as_id_stays_as_it_was_written(number):
    assert message(b'{"text":"x","id":%s}' % number.encode()).id == number


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2025-11-24T16:00:00Z", NOW.replace(microsecond=0)),
        (1_764_000_000, NOW.replace(microsecond=0)),
        (1_764_000_000.5, NOW.replace(microsecond=500_000)),
        (NOW_MS, NOW),
        (-1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (None, NOW),
    ],
)
def test_forms_of_the_timestamp(given, expected):
    assert message({"text": "x", "timestamp": given}).timestamp == expected


def test_a_producer_with_a_fast_clock_does_not_get_a_version_from_the_future():
    decoded = message({"text": "x", "timestamp": (NOW + timedelta(days=3650)).isoformat()})
    assert decoded.version.event_time == NOW
    assert decoded.timestamp == NOW + timedelta(days=3650)


def test_a_record_without_a_timestamp():
    assert message({"text": "x", "timestamp": 10}, timestamp=-1).version.event_time == datetime.fromtimestamp(10, UTC)
    assert message({"text": "x"}, timestamp=-1).version.event_time == datetime.fromtimestamp(0, UTC)


def test_what_postgresql_cannot_store_is_replaced_and_noted():
    decoded = message(b'{"text":"a\\u0000b\\ud800","source":"\\udfff","metadata":{"k\\u0000":["\\ud9ab",{"x":1}]}}')
    assert decoded.text == "a\ufffdb\ufffd"
    assert decoded.source == "\ufffd"
    assert json.loads(decoded.metadata) == {"k\ufffd": ["\ufffd", {"x": 1}], "sanitized": True}


def test_a_pair_of_surrogates_is_one_character():
    decoded = message(b'{"text":"\\ud83d\\ude00"}')
    assert (decoded.text, decoded.metadata) == ("\N{GRINNING FACE}", "{}")


def test_of_duplicate_keys_the_last_wins():
    assert message(b'{"text":"a","text":"b"}').text == "b"


REJECTED = [
    (b"\xff\xfe", "not_utf8"),
    (b'{"text": "caf\xe9"}', "not_utf8"),
    (b"", "not_json"),
    (b"hello", "not_json"),
    (b'{"text": "x"', "not_json"),
    (b'{"text": "x"} x', "not_json"),
    (b"\xef\xbb\xbf{}", "text_missing"),
    (b"\xef\xbb\xbf\xef\xbb\xbf{}", "not_json"),
    (b'{"text": NaN}', "not_json"),
    (b'{"text": "a\nb"}', "not_json"),
    (b"[" * 100_000, "not_json"),
    *((b'{"id":1.5,"text":"x","deep":%s%s}' % (b"[" * depth, b"]" * depth), "not_json") for depth in (50_000, 200_000)),
    (b'{"text":"x","metadata":{"n":%s}}' % (b"9" * 5000), "not_json"),
    ([1], "not_an_object"),
    ("text", "not_an_object"),
    (b"null", "not_an_object"),
    ({}, "text_missing"),
    ({"text": None}, "text_missing"),
    ({"text": 1}, "text_not_a_string"),
    ({"text": ["a"]}, "text_not_a_string"),
    ({"text": ""}, "text_blank"),
    ({"text": " \t\n\u00a0"}, "text_blank"),
    ({"text": "\u200b\u00ad\ufeff"}, "text_blank"),
    ({"text": "x" * 101}, "text_too_large"),
    ({"text": "é" * 51}, "text_too_large"),
    ({"text": "x", "id": ""}, "bad_id"),
    ({"text": "x", "id": "i" * 513}, "bad_id"),
    ({"text": "x", "id": "a\0"}, "bad_id"),
    ({"text": "x", "id": "\ud800"}, "bad_id"),
    ({"text": "x", "id": True}, "bad_id"),
    ({"text": "x", "id": []}, "bad_id"),
    ({"text": "x", "timestamp": "yesterday"}, "bad_timestamp"),
    ({"text": "x", "timestamp": "2025-11-24T16:00:00"}, "bad_timestamp"),
    ({"text": "x", "timestamp": "0001-01-01T00:00:00+23:00"}, "bad_timestamp"),
    ({"text": "x", "timestamp": True}, "bad_timestamp"),
    ({"text": "x", "timestamp": {}}, "bad_timestamp"),
    ({"text": "x", "timestamp": 1e300}, "bad_timestamp"),
    (b'{"text":"x","timestamp":1e999}', "bad_timestamp"),
    ({"text": "x", "timestamp": 10**400}, "bad_timestamp"),
    ({"text": "x", "model": 1}, "bad_model"),
    ({"text": "x", "model": "BAAI/bge-small-en-v1.5"}, "other_model"),
    ({"text": "x", "metadata": []}, "bad_metadata"),
    ({"text": "x", "metadata": "{}"}, "bad_metadata"),
    (b'{"text":"x","metadata":{"n":1e999}}', "bad_metadata"),
    ({"text": "x", "source": 1}, "bad_source"),
]


@pytest.mark.parametrize(("value", "code"), REJECTED, ids=lambda part: repr(part)[:30])
def test_what_is_rejected(value, code):
    with pytest.raises(Rejected) as caught:
        decode(record(value), RULES)
    assert (caught.value.stage, caught.value.code) == ("decode", code)


@pytest.mark.parametrize(
    ("key", "code"), [(None, "delete_without_key"), (b"", "delete_without_key"), (b"\xff", "bad_id")]
)
def test_deletes_that_are_rejected(key, code):
    with pytest.raises(Rejected) as caught:
        decode(record(None, key=key), RULES)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "but white space"), ("\n", "but white space"), ("\u200b", "visible"), (" \u00ad", "visible")],
)
def test_a_text_with_nothing_to_embed_says_so(text, says):
    with pytest.raises(Rejected, match=f"^decode: text_blank: the text has nothing {says}$"):
        message({"text": text})


def test_a_key_that_is_no_text_does_not_matter_where_the_message_has_an_id():
    assert message({"text": "x", "id": "a"}, key=b"\xff").id == "a"


def test_reasons_quote_no_text():
    secret = "the-secret-text"
    for value in (
        f'{{"text": "{secret}',
        f'{{"text": "x", "timestamp": "{secret}"}}',
        f'{{"text":"x","model":"{secret}"}}',
    ):
        with pytest.raises(Rejected) as caught:
            decode(record(value.encode()), RULES)
        assert secret not in str(caught.value)


@given(st.binary(max_size=200), st.none() | st.binary(max_size=20), st.integers(-1, 2**63 - 1))
def test_any_bytes_are_decoded_or_rejected(value, key, timestamp):
    try:
        decoded = decode(record(value, key=key, timestamp=timestamp), RULES)
    except Rejected:
        return
    assert decoded.id


TEXT = st.text(st.sampled_from('ab \0\ud800\udfffé\U0001f600\\"\n'), max_size=10)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {"text": TEXT}, optional={"id": JSON, "timestamp": JSON, "model": JSON, "metadata": JSON, "source": JSON}
    )
)
def test_any_json_is_decoded_to_what_postgresql_can_store_or_rejected(value):
    try:
        decoded = message(json.dumps(value).encode())
    except Rejected:
        return
    for text in (decoded.id, decoded.text, decoded.metadata, decoded.source or ""):
        assert "\0" not in text
        text.encode()
    assert isinstance(json.loads(decoded.metadata), dict)


@st.composite
def nearly_json(draw):
    """JSON in which a few bytes are others."""
    raw = bytearray(json.dumps(draw(JSON), ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass"))
    for _ in range(draw(st.integers(0, 2))):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(
            st.sampled_from(b'0123456789eE+-."\\/u[]{},:\n\0\x7f\xc3\xa9\xed')
        )
    return bytes(raw)


@settings(max_examples=500)
@given(nearly_json())
def test_the_fast_decoder_takes_nothing_that_json_would_read_otherwise(value):
    try:
        fast = _decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return
    assert repr(fast) == repr(json.loads(value.decode(), parse_constant=pytest.fail))
    if isinstance(fast, dict):
        assert repr(json.loads(encode(fast))) == repr(fast)


def test_numbers_without_bounds_keep_their_digits_or_are_rejected():
    metadata = message(b'{"text": "a", "metadata": {"n": 123456789012345678901234567890, "x": 1e22}}').metadata
    assert json.loads(metadata) == {"n": 123456789012345678901234567890, "x": 1e22}
    assert message(b'{"text": "a", "x": 1e400, "metadata": {"n": 1}}').metadata == '{"n":1}'
    with pytest.raises(Rejected, match="a number that is too large"):
        message(b'{"text": "a", "metadata": {"n": 1e400}}')


def test_a_message_may_name_a_model_that_the_table_had_before():
    rules = RULES._replace(model_name="org/new", former_models=(MODEL,))
    for name in ("org/new", "new", MODEL, MODEL.rpartition("/")[2]):
        assert decode(record({"text": "x", "model": name}), rules).text == "x"
    with pytest.raises(Rejected, match="another model than the table's, org/new"):
        decode(record({"text": "x", "model": "org/third"}), rules)
