"""JSON lines to records of the input topic, held against the job's own rules before the first one is sent."""

from __future__ import annotations

import json
import time
import zlib
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from embedstream import kafka
from embedstream.decode import forms
from embedstream.decode.fields import id_of_coordinates
from embedstream.decode.message import Record
from embedstream.decode.opening import decoder_of
from embedstream.errors import ConfigError, EmbedstreamError, Rejected
from embedstream.kafka import LARGEST_MESSAGE, Outgoing
from embedstream.spool import Entry, Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from embedstream.settings import Settings

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Of a batch with one record in it, beside key and value.
_OVERHEAD = 100
_LISTED = 10
# Where a record will stand is not known before it is sent.
_NOWHERE = (-1, -1)


class Sent(NamedTuple):
    """What was sent, and where each of it stands, in the order of `entries`; a record of which several messages come,
    or none, has no id.
    """

    entries: Spool
    partitions: array[int]
    offsets: array[int]

    def records(self, topic: str) -> Iterator[dict[str, Any]]:
        for entry, partition, offset in zip(self.entries, self.partitions, self.offsets, strict=True):
            id = id_of_coordinates(topic, partition, offset) if entry.id is None else entry.id
            yield {"id": id or None, "partition": partition, "offset": offset}


class Checker:
    """Makes records of lines, and refuses what the job would.

    `model` is asked for the name of the table's model once a line names one; where it does not know, any name passes.
    """

    def __init__(self, settings: Settings, key_field: str, model: Callable[[], str | None] = lambda: None) -> None:
        self._is_json = settings.decoding is None or settings.decoding.formats.value == "json"
        self._topic = settings.kafka_input_topic
        self._settings = settings
        self._decode = decoder_of(settings, None)
        self._key_field = key_field
        self._model: Callable[[], str | None] | None = model

    def line(self, number: int, value: bytes) -> Entry:
        """Raises Rejected, and ConfigError where no line can be a message of the pipeline."""
        if not self._is_json:
            raise ConfigError("lines are sent as JSON, but the pipeline reads another format: use its producer")
        if len(value) > LARGEST_MESSAGE - _OVERHEAD:
            raise Rejected("decode", "too_large", f"it has more than {LARGEST_MESSAGE - _OVERHEAD} bytes")
        value = value.removeprefix(_BYTE_ORDER_MARK)
        body = _object(value)
        if self._model and body.get("model") is not None:
            self._decode = decoder_of(self._settings, self._model())
            self._model = None
        return self._entry(number, _key(body.get(self._key_field)), value)

    def delete(self, number: int, id: str) -> Entry:
        """Raises Rejected."""
        return self._entry(number, id.encode(errors="surrogateescape"), None)

    def _entry(self, number: int, key: bytes | None, value: bytes | None) -> Entry:
        now = time.time_ns() // 1_000_000
        ids = {item.id for item in self._decode(Record(key, value, self._topic, *_NOWHERE, now))}
        id = ids.pop() if len(ids) == 1 else ""
        return Entry(number, None if id == id_of_coordinates(self._topic, *_NOWHERE) else id, key, value)


def _object(value: bytes) -> dict[str, Any]:
    """With floats as they are written, which is how they become ids; nothing where decode is to say what is wrong."""
    with suppress(ValueError, RecursionError):
        body = json.loads(value, parse_float=str)
        if isinstance(body, dict):
            return body
    return {}


def _key(given: object) -> bytes | None:
    keyed = isinstance(given, str | int) and not isinstance(given, bool)
    return str(given).encode(errors="surrogatepass") or None if keyed else None


def lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Number and content of each line that is not blank; of a line longer than any message only its beginning.

    Raises ConfigError for UTF-16 and UTF-32, whose lines are not found.
    """
    number = 0
    while line := file.readline(LARGEST_MESSAGE):
        number += 1
        if number == 1 and (encoding := forms.other_unicode(line[: len(line) // 4 * 4])):
            raise ConfigError(f"the input is {encoding}, not UTF-8: convert it; nothing was sent")
        is_cut = len(line) == LARGEST_MESSAGE and not line.endswith(b"\n")
        part = line
        while len(part) == LARGEST_MESSAGE and not part.endswith(b"\n"):
            part = file.readline(LARGEST_MESSAGE)
        if value := line if is_cut else line.strip():
            yield number, value


def send_lines(
    settings: Settings, file: BinaryIO, checker: Checker, on_sent: Callable[[int], None] = lambda _: None
) -> Sent:
    """Read to the end, check every line, and only then send.

    Raises ConfigError that names the lines which cannot be sent; then nothing was.
    """
    return _send(settings, lambda: ((number, checker.line, value) for number, value in lines(file)), "line {}", on_sent)


def send_deletes(settings: Settings, ids: list[str], checker: Checker, partition: int | None = None) -> Sent:
    """A record with a null value for each id, where no partition is given in that of its key.

    Raises ConfigError, before anything is sent, for what is no id.
    """
    return _send(
        settings,
        lambda: ((number, checker.delete, id) for number, id in enumerate(ids, 1)),
        "--delete no. {}",
        partition=partition,
    )


def stream_lines(
    settings: Settings, file: BinaryIO, checker: Checker, on_sent: Callable[[int], None] = lambda _: None
) -> int:
    """Send each line once it is read, up to the first that cannot be sent.

    Raises ConfigError for that one; those before it were sent.
    """
    limit = kafka.largest_batch(settings, settings.kafka_input_topic)

    def records() -> Iterator[Outgoing]:
        for number, value in lines(file):
            try:
                entry = checker.line(number, value)
            except Rejected as exc:
                raise ConfigError(f"line {number}: {exc.reason}; the lines before it were sent") from exc
            if _size(entry) > limit:
                raise ConfigError(f"line {number}: {_too_large(entry, limit)}; the lines before it were sent")
            yield Outgoing(entry.value, entry.key)

    return kafka.produce(settings, settings.kafka_input_topic, records(), on_sent)


def _send(
    settings: Settings,
    inputs: Callable[[], Iterable[tuple[int, Callable[[int, Any], Entry], Any]]],
    name: str,
    on_sent: Callable[[int], None] = lambda _: None,
    *,
    partition: int | None = None,
) -> Sent:
    spool = Spool()
    _refuse(name, _checked(spool, inputs()))
    topic = settings.kafka_input_topic
    limit = kafka.largest_batch(settings, topic) if len(spool) else LARGEST_MESSAGE
    large = any(_size(entry) > limit for entry in spool)
    if large:
        _refuse(name, ((e.number, _too_large(e, limit)) for e in spool if _size(e) > limit and _compressed(e) > limit))
    sent = Sent(spool, array("l", [-1]) * len(spool), array("q", [-1]) * len(spool))

    def delivered(position: int, partition: int, offset: int) -> None:
        sent.partitions[position], sent.offsets[position] = partition, offset

    records = (Outgoing(entry.value, entry.key, partition=partition) for entry in spool)
    # What is too large as it is was measured with gzip, so with gzip it goes.
    options = {"compression": "gzip"} if large else {}
    try:
        kafka.produce(settings, topic, records, on_sent, delivered, **options)
    except kafka.Undelivered as exc:
        number = next(entry.number for position, entry in enumerate(spool) if position == exc.position)
        raise ConfigError(f"{name.format(number)}: {exc}; others may have been sent") from exc
    return sent


def _checked(spool: Spool, inputs: Iterable[tuple[int, Callable[[int, Any], Entry], Any]]) -> Iterator[tuple[int, str]]:
    """Keep what may be sent, and tell number and reason of what may not."""
    for number, check, given in inputs:
        try:
            spool.add(check(number, given))
        except Rejected as exc:
            yield number, exc.reason


def _refuse(name: str, refused: Iterable[tuple[int, str]]) -> None:
    """Raise ConfigError where anything is refused; lists the first few."""
    listed, count = [], 0
    for count, (number, reason) in enumerate(refused, 1):
        if count <= _LISTED:
            listed.append(f"{name.format(number)}: {reason}")
    if count == 1:
        raise ConfigError(f"{listed[0]}; nothing was sent")
    if count:
        more = [f"and {count - _LISTED} more"] if count > _LISTED else []
        raise ConfigError("\n".join([f"nothing was sent, since {count} cannot be:", *listed, *more]))


def _size(entry: Entry) -> int:
    return _OVERHEAD + len(entry.key or b"") + len(entry.value or b"")


def _compressed(entry: Entry) -> int:
    return _OVERHEAD + len(zlib.compress((entry.key or b"") + (entry.value or b"")))


def _too_large(entry: Entry, limit: int) -> str:
    return f"the record has {_size(entry)} bytes, more than the topic takes ({limit}): raise its max.message.bytes"


def model_of_service(settings: Settings, warn: Callable[[str], None]) -> Callable[[], str | None]:
    """Asks the service for the name of its model; where it does not answer, says that names are not checked."""

    def ask() -> str | None:
        from embedstream import services  # noqa: PLC0415 - most lines name no model

        try:
            return services.read_space(settings).model_name
        except EmbedstreamError as exc:
            warn(f"the field model is not checked: {exc}")
            return None

    return ask
