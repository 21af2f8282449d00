"""A message's journey for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream.display import as_json, first_line, printable, table
from embedstream.journey.report import At

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from embedstream.journey.report import Entry, Journey, Letter, Looked, Row, Version

_SHOWN = 60
_WAITING = frozenset({"in_flight", "behind_transaction"})
OUTCOMES = {
    "stored": "is what stands in the table",
    "unchanged": "is what stands in the table, with the text, and so the vector, of the version before it",
    "superseded": "has a newer version",
    "late": "lost against a message before it in its partition, only by its time",
    "deleted": "the delete took effect",
    "dead": "rejected: in the dead-letter topic",
    "filtered": "left out by the mapping",
    "in_flight": "the pipeline has not taken it yet",
    "behind_transaction": "behind a transaction that is open: no reader of committed records gets it yet",
    "expired": "is what the ledger knows, but the record has left the topic",
    "unexplained": "nothing says what became of it: run embedstream audit",
}
_ORIGINS = {
    "expired": "its record has left the topic",
    "forgotten": "where its record stood is forgotten: the topic was read anew since",
    "elsewhere": "it came from another topic",
    "former": "its place is of another topic of this name",
    "moved": "its place is of another topic of this name",
    "newer": "it was written while this looked",
    "nowhere": "the topic has no such record there",
    "rejected": "the record there is one that is rejected",
}
_PRESENCES = {
    "expired": "has left the topic",
    "not_yet": "is beyond the topic's end",
    "nothing": "holds no record for readers: compaction removed it, or it is a mark or a record of a transaction",
    "no_partition": "is in no partition that the topic has",
}


def as_text(found: Journey | At) -> str:
    return _of_place(found) if isinstance(found, At) else _of_id(found)


def _of_id(journey: Journey) -> str:
    parts = [
        _headline(journey),
        _versions(journey.versions),
        block("row", _row(journey.row)),
        block("ledger", _ledger(journey.ledger, journey.topic)),
        block("dead letters", map(_letter, journey.dead_letters)),
        block("looked at", looked(journey.looked_at)),
        "\n".join(journey.troubles),
    ]
    return "\n\n".join(filter(None, parts))


def _of_place(at: At) -> str:
    place = f"{at.partition}:{at.offset} of topic {at.topic}"
    if not at.known:
        return "\n\n".join(filter(None, [f"{place} {_PRESENCES[at.presence]}", "\n".join(at.troubles)]))
    letters = block("dead letters", map(_letter, at.dead_letters))
    return "\n\n".join(filter(None, [place, _versions(at.versions), letters, "\n".join(at.troubles)]))


def _headline(journey: Journey) -> str:
    where = f"topic {journey.topic}, table {journey.table}"
    id = printable(journey.id)
    if not journey.known:
        return f"nothing is known of {id}{'' if journey.complete else ' in what was looked at'}: {where}"
    return f"{id} {_state(journey)}: {where}"


def _state(journey: Journey) -> str:
    if journey.finding:
        return f"is not what the topic says ({journey.finding}; see embedstream audit)"
    if journey.row:
        return "is stored"
    if journey.ledger:
        return "is deleted" if journey.ledger.state == "deleted" else "has no row"
    return "has no row yet" if any(each.outcome in _WAITING for each in journey.versions) else "has no row"


def _versions(versions: Sequence[Version]) -> str:
    if not versions:
        return ""
    rows = [
        (each.place, moment(each.recorded), *([each.id or "-"] if len({v.id for v in versions}) > 1 else []), each.asks,
         each.outcome.replace("_", " "), _what(each))
        for each in versions
    ]  # fmt: skip
    ids = ["id"] if len({each.id for each in versions}) > 1 else []
    meant = {each.outcome: OUTCOMES[each.outcome] for each in versions}
    legend = "\n".join(f"{outcome.replace('_', ' ')}: {meaning}" for outcome, meaning in meant.items())
    return f"{table(['where', 'recorded', *ids, 'asks', 'outcome', ''], rows)}\n\n{legend}"


def _what(version: Version) -> str:
    if version.code:
        return f"{version.stage or 'decode'} {version.code}: {version.reason or ''}"
    return "" if version.text is None else excerpt(version.text, version.characters)


def block(name: str, lines: Iterable[str]) -> str:
    """Indented below its name; nothing where there are no lines."""
    found = [f"  {printable(line)}" for line in lines]
    return "\n".join([name, *found]) if found else ""


def _row(row: Row | None) -> Iterator[str]:
    if row is None:
        yield "none"
        return
    chunks = "" if row.chunks is None else f" in {row.chunks:,} chunks"
    unseen = f", and {row.unseen:,} chunks of which the model sees nothing" if row.unseen else ""
    cut = ", truncated: the model read its beginning only" if row.truncated else ""
    yield excerpt(row.text, row.characters)
    yield f"{_number(row.characters)} characters, {_number(row.token_count)} tokens{chunks}{unseen}{cut}"
    yield f"embedded {moment(row.embedding_timestamp)} by {row.model_name or 'a model that is not known'}"
    yield f"message {moment(row.message_timestamp)}, {f'source {row.source}' if row.source else 'no source'}"
    yield f"metadata {as_json(row.metadata, indent=None)}"


def _ledger(entry: Entry | None, topic: str) -> Iterator[str]:
    if entry is None:
        yield "no entry"
        return
    place = f"{entry.partition}:{entry.offset}" if entry.partition >= 0 else "no place"
    other = f" of topic {entry.topic}" if entry.topic not in ("", topic) else ""
    yield f"{entry.state} at {place}{other}, version {moment(entry.event_time)}, written {moment(entry.updated_at)}"
    if entry.origin in _ORIGINS:
        yield _ORIGINS[entry.origin]


def _letter(letter: Letter) -> str:
    what = f"{letter.stage} {letter.code}: {letter.reason}"
    return (
        f"{letter.partition}:{letter.offset} {moment(letter.at)}, for the record at "
        f"{letter.origin_partition}:{letter.origin_offset}: {what}"
    )


def looked(looked_at: Sequence[Looked]) -> Iterator[str]:
    if all(each.is_whole for each in looked_at):
        yield "the whole topic"
        return
    for each in looked_at:
        yield f"partition {each.partition}: {_span(each)}"
    yield "what stands elsewhere is not known: --all looks at the whole topic"


def _span(looked: Looked) -> str:
    whole = f"offsets {looked.log_first} to {looked.log_end}"
    if looked.is_whole:
        return f"all of it, {whole}"
    if looked.first >= looked.end:
        return f"nothing of {whole}"
    return f"offsets {looked.first} to {looked.end} of {whole}"


def excerpt(text: str | None, characters: int | None) -> str:
    """The first line, cut where it is long."""
    if text is None:
        return "(text not known)"
    line = first_line(text)[:_SHOWN].rstrip()
    return line if len(line) == characters else f"{line}…"


def moment(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}.{time.microsecond // 1000:03} UTC" if time else "at a time that is not known"


def _number(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"
