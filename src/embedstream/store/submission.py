"""What a submission reads and writes of a table before its job begins, in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from embedstream.store.names import documents_for, statements
from embedstream.store.space import read_terms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    import psycopg

    from embedstream.kafka import Identity
    from embedstream.settings import Settings
    from embedstream.starts import Start

    Connection = psycopg.Connection[Any]


class Counts(NamedTuple):
    """Rows, ids of the ledger (`deleted` of them without a row), and the ids and late records that progress counted.

    All of one snapshot; `known` is None where there is no progress, and `is_blank` where there had been some.
    """

    rows: int
    ids: int
    deleted: int
    known: int | None
    late: int | None
    is_blank: bool = False

    @property
    def are_sound(self) -> bool:
        """Whether every id that ever came in is in the ledger, and has a row unless it is deleted."""
        return not self.is_blank and self.rows == self.ids - self.deleted and self.known in (None, self.ids)


def losses(counts: Counts) -> str:
    """What is gone that had been there, in words; empty where nothing is."""
    live, facts = counts.ids - counts.deleted, []
    if counts.is_blank:
        facts.append("how far the table was in its topic is gone, and with it perhaps more")
    if counts.known is not None and counts.known != counts.ids:
        facts.append(f"{counts.known:,} ids came in, but the ledger has {counts.ids:,}")
    if counts.rows != live:
        facts.append(f"the ledger has {live:,} ids that are not deleted, but the table {counts.rows:,} rows")
    return " and ".join(facts)


def read_counts(connection: Connection, settings: Settings) -> Counts:
    return Counts(*connection.execute(_sql(settings)["counts"]).fetchall()[0])


def lock(connection: Connection, settings: Settings) -> None:
    """Keep writers out for the rest of the transaction."""
    connection.execute(_sql(settings)["lock"])


def begin(
    connection: Connection, settings: Settings, identity: Identity, starts: Sequence[Start], *, anew: bool
) -> None:
    """Write down where the next job begins, and with which mapping; `anew` means that what the table knew of it counts
    no more.
    """
    terms = read_terms(connection, settings)
    mapping = settings.decoding.mapping_hash if settings.decoding else None
    facts = {
        "topic": settings.kafka_input_topic,
        "topic_id": identity.topic_id,
        "cluster_id": identity.cluster_id,
        "partition": [start.partition for start in starts],
        "next": [start.offset for start in starts],
        "anew": anew,
        "is_mapped_anew": terms is not None and terms.has_begun and terms.mapping != mapping,
    }
    sql = _sql(settings)
    connection.execute(sql["begin"], facts)
    if terms and terms.mapping != mapping:
        connection.execute(sql["set_mapping"], {"mapping": mapping})
    if terms and not terms.has_begun:  # who owns nothing may not even update no row of it
        connection.execute(sql["begun"])
    recount(connection, settings)


def recount(connection: Connection, settings: Settings) -> None:
    """Take the ledger's number of ids for the right one; writers are to be kept out meanwhile."""
    connection.execute(_sql(settings)["recount"])


def forget_missing(connection: Connection, settings: Settings) -> None:
    """Have ids that lack their row be written again by the record that made it, if the topic still has it."""
    connection.execute(_sql(settings)["forget_missing"])


def adopt(connection: Connection, settings: Settings) -> None:
    """Make every stored version older than any record of the topic of the same time."""
    facts = {"topic": settings.kafka_input_topic, "version_by": settings.version_by}
    for name in ("adopt", "drop_progress", "set_version_by"):
        connection.execute(_sql(settings)[name], facts)


def replay(connection: Connection, settings: Settings, firsts: Mapping[int, int]) -> None:
    """Have every stored version lose against its own record, where the topic still has it: from these offsets on."""
    facts = {"topic": settings.kafka_input_topic, "partition": list(firsts), "first": list(firsts.values())}
    connection.execute(_sql(settings)["replay"], facts)


def _sql(settings: Settings) -> dict[str, Any]:
    return dict(statements(settings.pgvector_table, "progress.sql", documents=documents_for(settings)))
