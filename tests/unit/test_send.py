"""What `send` makes of lines, before any broker is asked."""

import io
import json
import tracemalloc

import pytest

from embedstream.decode.default import decode
from embedstream.decode.message import Record, Rules
from embedstream.errors import ConfigError, Rejected
from embedstream.kafka import LARGEST_MESSAGE
from embedstream.send import Checker, _checked, _refuse, lines
from embedstream.settings import load_settings
from embedstream.spool import Entry, Spool
from support.traffic import GARBAGE

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
SETTINGS = load_settings(kafka_bootstrap_servers="127.0.0.1:1", max_text_bytes=1_048_576)


def entries(given, key_field="id"):
    checker = Checker(SETTINGS, key_field, lambda: MODEL)
    return [checker.line(number, value) for number, value in lines(io.BytesIO(given))]


def refusals(given):
    checker = Checker(SETTINGS, "id", lambda: MODEL)
    return dict(_checked(Spool(), ((number, checker.line, value) for number, value in lines(io.BytesIO(given)))))


def test_a_line_becomes_a_record_as_it_stands():
    given = b'{"id": "a",  "text": "x"}\r\n\n \t\n{"id": 7, "text": "y"}\n{"text": "z"}'
    assert entries(given) == [
        Entry(1, "a", b"a", b'{"id": "a",  "text": "x"}'),
        Entry(4, "7", b"7", b'{"id": 7, "text": "y"}'),
        Entry(5, None, None, b'{"text": "z"}'),
    ]


@pytest.mark.parametrize("id", ["1.10", "12345678901234567890123", "1e2", '"é"'])
def test_the_key_is_the_id_as_it_is_written(id):
    (entry,) = entries(f'{{"id": {id}, "text": "x"}}'.encode())
    assert entry.key.decode() == entry.id == id.strip('"')


def test_another_field_as_key():
    assert entries(b'{"id": "a", "user": "u", "text": "x"}', "user")[0][1:3] == ("a", b"u")
    assert entries(b'{"user": "u", "text": "x"}', "user")[0][1:3] == ("u", b"u")
    assert entries(b'{"user": "", "text": "x"}\n{"user": true, "text": "x"}', "user")[0][1:3] == (None, None)


def test_byte_order_marks_are_taken_off():
    assert [entry.value for entry in entries(b'\xef\xbb\xbf{"text":"a"}\n\xef\xbb\xbf{"text":"b"}\n')] == [
        b'{"text":"a"}',
        b'{"text":"b"}',
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_one_error(encoding):
    with pytest.raises(ConfigError, match=f"the input is {encoding[:6].upper()}, not UTF-8: convert it; nothing was"):
        entries('{"id": "ab", "text": "x"}\r\n{"id": "b"}\r\n'.encode(encoding))


GIVEN = [(value, code) for value, key, code in GARBAGE if key == b"k"]
LINES = [(value, code) for value, code in GIVEN if value.strip() == value != b"" and b"\n" not in value]


@pytest.mark.parametrize(("value", "code"), LINES, ids=range(len(LINES)))
def test_what_the_job_rejects_is_refused_by_its_number(value, code):
    """The key is the line's own, so an id that is wrong in the key alone cannot come."""
    given = b'{"text": "good"}\n\n' + value + b"\n" + b'{"text": "good"}\n'
    try:
        found = refusals(given)
    except ConfigError:
        pytest.fail("one line is not the whole input")
    assert list(found) == [3]
    with pytest.raises(Rejected) as caught:
        decode(Record(None, value, "t", 0, 0, 0), Rules(MODEL, SETTINGS.max_text_bytes))
    assert (caught.value.code, caught.value.reason) == (code, found[3])


def test_the_model_is_asked_for_once_and_only_where_a_line_names_one():
    asked = []
    checker = Checker(SETTINGS, "id", lambda: asked.append(1) or MODEL)
    checker.line(1, b'{"text": "x", "model": null}')
    assert asked == []
    checker.line(2, b'{"text": "x", "model": "all-MiniLM-L6-v2"}')
    for number in (3, 4):
        with pytest.raises(Rejected, match="other_model"):
            checker.line(number, b'{"text": "x", "model": "another"}')
    assert asked == [1]


def test_where_the_model_is_not_known_any_name_passes_but_a_name_it_must_be():
    checker = Checker(SETTINGS, "id", lambda: None)
    assert checker.line(1, b'{"text": "x", "model": "another"}').value
    with pytest.raises(Rejected, match="bad_model"):
        checker.line(2, b'{"text": "x", "model": 7}')


def test_deletes_are_checked_too():
    checker = Checker(SETTINGS, "id")
    assert checker.delete(1, "a") == Entry(1, "a", b"a", None)
    with pytest.raises(Rejected, match="delete_without_key"):
        checker.delete(2, "")
    with pytest.raises(Rejected, match="bad_id"):
        checker.delete(3, "\udcff")


class Endless(io.RawIOBase):
    """So many bytes without an end of line, none of them in memory before it is read."""

    def __init__(self, size, byte):
        self.left, self.byte = size, byte

    def readable(self):
        return True

    def readinto(self, buffer):
        count = min(len(buffer), self.left)
        buffer[:count] = self.byte * count
        self.left -= count
        return count


@pytest.mark.parametrize("byte", [b"x", b" "])
def test_a_line_without_end_costs_no_more_memory_than_the_longest(byte):
    file = io.BufferedReader(Endless(10 * LARGEST_MESSAGE, byte), 1024 * 1024)
    tracemalloc.start()
    try:
        ((number, value),) = lines(file)
        assert tracemalloc.get_traced_memory()[1] < 6 * LARGEST_MESSAGE
    finally:
        tracemalloc.stop()
    with pytest.raises(Rejected, match="it has more than 16777116 bytes"):
        Checker(SETTINGS, "id").line(number, value)


def test_a_line_longer_than_a_block_leaves_the_next_one_its_number():
    given = b"x" * (LARGEST_MESSAGE + 7) + b'\n{"text": "a"}\n' + b"y" * LARGEST_MESSAGE + b'\n{"text": "b"}'
    assert [(number, len(value)) for number, value in lines(io.BytesIO(given))] == [
        (1, LARGEST_MESSAGE), (2, 13), (3, LARGEST_MESSAGE), (4, 13),
    ]  # fmt: skip


def test_all_refused_lines_are_told_up_to_a_few():
    _refuse("line {}", [])
    with pytest.raises(ConfigError, match=r"^line 7: why; nothing was sent$"):
        _refuse("line {}", [(7, "why")])
    with pytest.raises(ConfigError) as caught:
        _refuse("line {}", ((n, "why") for n in range(1, 16)))
    told = str(caught.value).split("\n")
    assert told[0] == "nothing was sent, since 15 cannot be:"
    assert told[1:] == [*(f"line {n}: why" for n in range(1, 11)), "and 5 more"]


@pytest.mark.parametrize("size", [10, 100_000])
def test_what_waits_comes_back_as_it_was(size):
    spool = Spool()
    ids, keys, values = [None, "é"], [None, b"", b"k"], [None, b"", b"v" * size]
    kept = [Entry(n, ids[n % 2], keys[n % 3], values[n % 5 % 3]) for n in range(300)]
    for entry in kept:
        spool.add(entry)
    assert len(spool) == 300
    assert list(spool) == list(spool) == kept


def test_what_waits_lies_on_disk_where_it_is_much():
    spool = Spool()
    tracemalloc.start()
    try:
        for number in range(300):
            spool.add(Entry(number, None, None, b"v" * 1_000_000))
        assert sum(len(entry.value) for entry in spool) == 300_000_000
        assert tracemalloc.get_traced_memory()[1] < 64_000_000
    finally:
        tracemalloc.stop()


def test_no_room_to_keep_the_lines_is_one_clear_error(monkeypatch):
    spool = Spool()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool._file, "write", full)
    with pytest.raises(ConfigError, match=r"no room .*\(No space left on device\): set TMPDIR"):
        spool.add(Entry(1, None, None, json.dumps({}).encode()))
