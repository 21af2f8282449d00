"""How large a record may be, and what memory that takes: everything here follows from MAX_TEXT_BYTES.

What Kafka, Flink and PyFlink let one set counts records, or the bytes of compressed batches. A batch may decompress
to a thousand times its size, so each part is bounded by what its records have when they are read.
"""

from __future__ import annotations

from typing import NamedTuple

KIB = 1024
MIB = 1024 * KIB

BUNDLE_SHARES = 512
"""Records that Flink hands to the function at a time, where none is larger than SHARE_BYTES."""
SHARE_BYTES = 16 * KIB
"""What counts as one record; a larger one counts as several."""
_MOST_POLL_RECORDS = 8
_POLL_BYTES = 56 * MIB
POLLS = 4
"""Polls whose records are held at a time: one at work, two in Flink's queue, one that waits for a place in it."""
FETCH_BYTES = 8 * MIB
"""Compressed bytes of one answer of a broker, unless a single batch has more."""
PARTITION_FETCH_BYTES = 512 * KIB
LARGEST_MESSAGE = 16 * MIB
"""What `embedstream send` and a replay can send."""
REQUEST_BYTES = MIB
"""Texts of one request to the embedding service, where it has more than one."""
HEADER_BYTES = 64 * KIB
"""As much of a header as a mapping sees."""

_KEY_BYTES = 64 * KIB
_HEADER_BYTES = MIB
_OWN_HEADERS_BYTES = 16 * KIB
_LONGEST_ESCAPE = 6
_BESIDE_THE_TEXT = MIB
_COPIES = 5


def record_bytes(max_text_bytes: int) -> int:
    """The largest value that is decoded: a text of which every byte is a JSON escape, and a MiB beside it."""
    return _LONGEST_ESCAPE * max_text_bytes + _BESIDE_THE_TEXT


def poll_records(max_text_bytes: int) -> int:
    """Records that the Kafka source takes from its client at a time; the fewer, the more work for Flink."""
    return max(1, min(_MOST_POLL_RECORDS, _POLL_BYTES // record_bytes(max_text_bytes)))


class Letter(NamedTuple):
    """The largest value, key and headers, in bytes, that a dead letter keeps; it says which of them it lacks."""

    value: int
    key: int
    headers: int

    @classmethod
    def of(cls, max_text_bytes: int, max_message_bytes: int | None = None) -> Letter:
        """What fits into a topic whose `max.message.bytes` is this (None: more than any that we have use for)."""
        value = max(LARGEST_MESSAGE, record_bytes(max_text_bytes))
        if max_message_bytes is None:
            return cls(value, _KEY_BYTES, _HEADER_BYTES)
        key, headers = min(_KEY_BYTES, max_message_bytes // 16), min(_HEADER_BYTES, max_message_bytes // 8)
        left = max_message_bytes - key - headers - _OWN_HEADERS_BYTES
        return cls(max(0, min(value, left)), key, headers)

    @property
    def request(self) -> int:
        """The largest request that the sink makes."""
        return self.value + self.key + self.headers + _OWN_HEADERS_BYTES


def slot_heap_bytes(max_text_bytes: int) -> int:
    """Of Flink's heap, what one slot holds at most while all records are as large as they may be.

    Records that were read ahead; a micro-batch five times over, as it goes through the function's operator, Arrow's
    buffer, and Beam's; and one dead letter with its request. A larger record needs its size once more for each poll.
    """
    record, letter = record_bytes(max_text_bytes), Letter.of(max_text_bytes).request
    ahead = POLLS * poll_records(max_text_bytes) + 1
    return ahead * record + _COPIES * (BUNDLE_SHARES * SHARE_BYTES + record) + 2 * letter
