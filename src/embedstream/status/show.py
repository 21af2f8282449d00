"""The status for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedstream.display import duration
from embedstream.index.state import as_line as index_as_line
from embedstream.migrate.standing import as_line as as_migration
from embedstream.remote import as_line

if TYPE_CHECKING:
    from embedstream.status.read import Partition, Status

_UNKNOWN = "not known"
# Below it, dropping the index and building it again saves nothing to speak of.
_BULK = 10_000


def as_text(status: Status) -> str:
    """A fact a line."""
    lines = [
        ("health", status.health.state),
        *(("", reason) for reason in status.health.reasons),
        ("job", _job(status)),
        (f"topic {status.topic}", _topic(status)),
        *((f"  partition {part.partition}", line) for part in status.partitions or () if (line := _partition(part))),
        ("backlog", _backlog(status)),
        (f"table {status.table}", _table(status)),
        ("index", _index(status)),
        *([("migration", as_migration(status.migration))] if status.migration else []),
        ("outcomes", _counts(status.outcomes)),
        ("work", _counts(status.counts)),
        ("latency", _latency(status)),
        ("dead letters", _UNKNOWN if status.dead_letters is None else f"{status.dead_letters:,}"),
        ("service", status.service or _UNKNOWN),
        *([("remote", as_line(status.remote, status.lag))] if status.remote else []),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


def _job(status: Status) -> str:
    if status.job is None:
        return _UNKNOWN if "jobmanager" in status.away else "none runs: embedstream submit starts it"
    since = duration(status.since_checkpoint_seconds or 0.0)
    waiting = f", waits for the {' and the '.join(status.waits_for)}" if status.waits_for else ""
    return f"{status.job}{waiting}, last checkpoint {since} ago"


def _topic(status: Status) -> str:
    return _UNKNOWN if status.messages is None else f"{status.messages:,} messages"


def _partition(part: Partition) -> str:
    """Nothing where all is read."""
    age = part.transaction_age_seconds
    facts = {
        f"{part.lag:,} behind": part.lag,
        f"{part.behind_transaction:,} wait behind a transaction"
        f"{'' if age is None else f', open for {duration(age)}'}": part.behind_transaction,
        f"its offset lies beyond the end {part.end:,}": part.beyond_end,
        f"up to {part.expired_unread:,} expired unread": part.expired_unread,
        f"{part.late or 0:,} late": part.late,
    }
    return "; ".join(fact for fact, holds in facts.items() if holds)


def _backlog(status: Status) -> str:
    if status.lag is None:
        return _UNKNOWN
    beyond = "what the table has" if status.counted_by == "table" else "the last checkpoint"
    facts = [f"{status.lag:,} beyond {beyond}"]
    if status.oldest_unread_seconds is not None:
        facts.append(f"the oldest {duration(status.oldest_unread_seconds)} old")
    if status.lag and status.eta_seconds is not None:
        facts.append(f"done in {duration(status.eta_seconds)}")
    return ", ".join(facts)


def _table(status: Status) -> str:
    if status.rows is None:
        return _UNKNOWN
    rate = "" if status.rate is None else f", {status.rate:,.1f} rows/s over the last {status.seconds or 0:.0f} s"
    return f"{status.rows:,} rows, {status.deleted or 0:,} ids deleted{rate}"


def _index(status: Status) -> str:
    if status.index is None:
        return _UNKNOWN
    line = index_as_line(status.index)
    if status.index.state == "valid" and (status.lag or 0) > max(status.rows or 0, _BULK):
        line += "; the backlog outgrows the table, so loading it without index is cheaper: embedstream index drop"
    return line


def _counts(counts: dict[str, int] | None) -> str:
    return _UNKNOWN if counts is None else ", ".join(f"{number:,} {_words(name)}" for name, number in counts.items())


def _words(name: str) -> str:
    return {"waited_ms": "ms waited"}.get(name, name.replace("_", " "))


def _latency(status: Status) -> str:
    if status.latency_ms is None:
        return _UNKNOWN
    return ", ".join(f"{name} {milliseconds:,} ms" for name, milliseconds in status.latency_ms.items())
