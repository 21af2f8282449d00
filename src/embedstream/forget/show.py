"""The record of an erasure for people."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from embedstream.display import duration, printable
from embedstream.journey.show import OUTCOMES, block, looked, moment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedstream.forget.erase import Copy, Erasure, Kept

_LISTED = 10


def as_text(erasure: Erasure) -> str:
    parts = [
        "\n".join(map(printable, _headline(erasure))),
        block("the text still stands in", [*_places(erasure)] or ["no place that was looked at"]),
        block("it cannot be seen from here in", erasure.not_seen),
        "" if erasure.complete else block("looked at", looked(erasure.looked_at)),
    ]
    return "\n\n".join(filter(None, parts))


def _headline(erasure: Erasure) -> Iterator[str]:
    delete = f"its delete stands at {erasure.partition}:{erasure.offset} of topic {erasure.topic.topic}"
    if erasure.gone:
        had = "the row is gone" if erasure.had_row else "there was no row"
        yield f"{erasure.id}: {had}, {moment(erasure.gone_at)}"
        yield f"{delete}; the ledger keeps the id without its text, so that no older record brings it back"
        return
    yield f"{erasure.id}: its row is not known to be gone from table {erasure.table}"
    yield f"{delete}, {erasure.outcome.replace('_', ' ')}: {OUTCOMES[erasure.outcome]}"
    yield "embedstream where tells how it stands by now"


def _places(erasure: Erasure) -> Iterator[str]:
    yield from _kept(erasure.topic, deletes=True)
    yield from _kept(erasure.dead_letters, deletes=False)
    for each in erasure.relations:
        if each.vacuumed and not each.dead_tuples:
            continue
        last = f"vacuumed last {moment(each.last_vacuum)}" if each.last_vacuum else "never vacuumed yet"
        since = "" if each.vacuumed else ", which was before" if each.last_vacuum else ""
        yield f"{each.name}, as dead rows until vacuum: {each.dead_tuples:,} dead rows, {last}{since}"
    if erasure.indexes and not all(each.vacuumed for each in erasure.relations):
        yield f"its vectors and words in {', '.join(erasure.indexes)} until the same vacuum"


def _kept(kept: Kept, *, deletes: bool) -> Iterator[str]:
    if not kept.copies:
        return
    places = ", ".join(f"{each.partition}:{each.offset}" for each in kept.copies[:_LISTED])
    more = f" and {len(kept.copies) - _LISTED:,} more" if len(kept.copies) > _LISTED else ""
    yield f"topic {kept.topic} at {places}{more}: {_until(kept, deletes=deletes)}"


def _until(kept: Kept, *, deletes: bool) -> str:
    if kept.cleanup_policy is None:
        return "for a time that the broker does not tell"
    ways = []
    if "delete" in kept.cleanup_policy:
        ways.append(_retention(kept))
    if "compact" in kept.cleanup_policy:
        keyed = deletes and all(each.keyed for each in kept.copies)
        ways.append("until it is compacted" if keyed else "compaction does not remove those whose key is another")
    return "; ".join(ways)


def _retention(kept: Kept) -> str:
    if kept.retention_ms is None:
        return "until its retention ends, which the broker does not tell"
    if kept.retention_ms < 0:
        return "for ever (retention.ms is -1): kafka-delete-records.sh deletes all that stands before an offset"
    span = duration(kept.retention_ms / 1000)
    return f"until its segments are older than {span} (retention.ms){_at_the_earliest(kept.copies, kept.retention_ms)}"


def _at_the_earliest(copies: tuple[Copy, ...], retention_ms: int) -> str:
    times = [each.recorded for each in copies if each.recorded]
    try:
        return f", the last not before {moment(max(times) + timedelta(milliseconds=retention_ms))}" if times else ""
    except OverflowError:
        return ""
