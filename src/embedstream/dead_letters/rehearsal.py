"""What a replay would do, and what would become of what it sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from embedstream import store
from embedstream.dead_letters.replay import Replayed, replay
from embedstream.dead_letters.show import as_outgoing
from embedstream.decode.message import Delete, Record, attempt
from embedstream.decode.opening import decoder_of, headers_of
from embedstream.display import silently
from embedstream.errors import EmbedstreamError, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from embedstream.dead_letters.letter import DeadLetter, Filter, Place
    from embedstream.decode.message import Item
    from embedstream.display import Watch
    from embedstream.kafka import Outgoing
    from embedstream.settings import Settings


class Rehearsal(NamedTuple):
    """How many would be sent, the first of them as they would be, and the dead letters that they are."""

    result: Replayed
    records: list[dict[str, Any]]
    places: frozenset[Place]


def rehearse(
    settings: Settings,
    wanted: Filter,
    change: Callable[[DeadLetter], bytes | None] = lambda letter: letter.value,
    *,
    again: bool = False,
    most: int | None = None,
    describe: Callable[[Outgoing], dict[str, Any]] = as_outgoing,
    watch: Watch = silently,
) -> Rehearsal:
    """As `replay`, but nothing is sent; of at most `most` records it says how they would be."""
    seen: list[dict[str, Any]] = []
    places: set[Place] = set()

    def changed(letter: DeadLetter) -> bytes | None:
        value = change(letter)
        places.add(letter.facts.place)
        return value

    def send(records: Iterator[Outgoing]) -> int:
        count = 0
        for count, record in enumerate(records, 1):
            if most is None or count <= most:
                seen.append(describe(record))
        return count

    result = replay(settings, wanted, changed, again=again, send=send, watch=watch)
    return Rehearsal(result, seen, frozenset(places))


def foretelling(settings: Settings) -> Callable[[Outgoing], dict[str, Any]]:
    """Describes records as `as_outgoing`, and as `becomes` what decoding, as the job does it, makes of them."""
    decode, headers = decoder_of(settings, *_models(settings)), headers_of(settings)

    def describe(record: Outgoing) -> dict[str, Any]:
        said = {name: _bytes(value) for name, value in record.headers or () if name in headers}
        moment = -1 if record.timestamp is None else record.timestamp
        place = (settings.kafka_input_topic, record.partition or 0, 0)
        read = Record(record.key, record.value, *place, moment, said)
        return {**as_outgoing(record), "becomes": _told(attempt(read, decode))}

    return describe


def _models(settings: Settings) -> tuple[str | None, *tuple[str, ...]]:
    """Of the table, and those that it had before."""
    try:
        with store.database(settings) as connection:
            space = store.read_space(connection, settings)
            return (space.model_name if space else None, *store.read_service(connection, settings).former_models)
    except EmbedstreamError:
        return (None,)


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _told(items: Sequence[Item] | Rejected) -> str:
    if isinstance(items, Rejected):
        return f"rejected again: {items.code}: {items.reason}"
    if not items:
        return "left out by the mapping"
    deleted = [item.id for item in items if isinstance(item, Delete)]
    stored = [item.id for item in items if not isinstance(item, Delete)]
    return "; ".join(f"{what} {_some(ids)}" for what, ids in (("stored as", stored), ("deletes", deleted)) if ids)


def _some(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{ids[0]} and {len(ids) - 1:,} more"
