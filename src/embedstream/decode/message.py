"""What a Kafka record is, and what it asks for: a message to store, or a delete."""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, TypeAlias, TypeVar

from embedstream.errors import Rejected, RetryLater
from embedstream.limits import record_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from embedstream.settings import Settings

T = TypeVar("T")


class Record(NamedTuple):
    """A Kafka record; `timestamp` is in milliseconds since the epoch, negative where the broker has none.

    `headers` are those that the pipeline asks for.
    """

    key: bytes | None
    value: bytes | None
    topic: str
    partition: int
    offset: int
    timestamp: int
    headers: Mapping[str, bytes | None] = MappingProxyType({})


class Version(NamedTuple):
    """Orders all versions of an id, from left to right; no two messages share one.

    `item` is the message's number in its record; where a change gives up an id for another, the delete of the former
    has a negative one.
    """

    event_time: datetime
    topic: str
    partition: int
    offset: int
    item: int = 0


class Delete(NamedTuple):
    """The wish that the row of an id be gone."""

    id: str
    version: Version

    @property
    def timed(self) -> bool:
        """See Message; a delete has only its record's time."""
        return False


class Message(NamedTuple):
    """A text to store; `metadata` is the text of a JSON object, `timestamp` what the message said of itself.

    `timed` tells whether it said anything: else its time is the record's. Where `text` and `content_hash` are None, the
    text is that of the version before: the source left it out, since it did not change. `prefix`, without
    white space around it, stands before each chunk of the text when it is embedded.
    """

    id: str
    version: Version
    text: str | None
    content_hash: bytes | None
    timestamp: datetime
    source: str | None
    metadata: str
    timed: bool = True
    prefix: str = ""


Item: TypeAlias = "Message | Delete"
Decode: TypeAlias = "Callable[[Record], Sequence[Item]]"
"""What a record asks for, none of it where the pipeline leaves the record out.

Raises Rejected (stage decode) for a record of which nothing can ever be stored, RetryLater where the outside world is
asked and does not answer.
"""

Read: TypeAlias = "Callable[[bytes], object]"
"""What the bytes of a key or a value are, as plain values that JSON could have; raises as Decode."""

VersionBy: TypeAlias = Literal["time", "record"]


class Rules(NamedTuple):
    """What a topic's messages are held against: the name of the table's model (None: not known, any will do), the
    longest text in bytes, the order, and the models that the table had before.

    By `record`, versions go by topic, partition and offset alone: the event time is that of the epoch for all.
    """

    model_name: str | None
    max_text_bytes: int
    version_by: VersionBy = "time"
    former_models: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings, model_name: str | None, *former_models: str) -> Self:
        return cls(model_name, settings.max_text_bytes, settings.version_by, former_models)

    @property
    def max_value_bytes(self) -> int:
        return record_bytes(self.max_text_bytes)


def attempt(record: Record, decode: Callable[[Record], T]) -> T | Rejected:
    """What the record asks for, or why it asks for nothing: no bytes, whatever they are, raise more than RetryLater."""
    try:
        return decode(record)
    except Rejected as exc:
        return exc
    except RetryLater:
        raise
    except Exception as exc:  # noqa: BLE001 - they would restart the job
        return Rejected("decode", "unexpected", f"reading the record failed ({type(exc).__name__})")


def content_hash(text: str, prefix: str = "") -> bytes:
    """SHA-256 of the text's UTF-8 bytes (32 bytes), after the prefix and a zero byte where there is a prefix."""
    content = f"{prefix}\0{text}" if prefix else text
    return hashlib.sha256(content.encode()).digest()


def embedded_text(prefix: str, text: str) -> str:
    """What the model reads of a chunk."""
    return f"{prefix}\n\n{text}" if prefix else text
