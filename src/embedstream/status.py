"""How far the pipeline is: topic, lag, rows, dead letters, rate."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.sql import SQL

from embedstream import flink, kafka, store
from embedstream.errors import EmbedstreamError

if TYPE_CHECKING:
    import psycopg

    from embedstream.settings import Settings


@dataclass(frozen=True)
class Status:
    """Counts of messages and rows; `rate` in rows per second that took effect, measured over `seconds`.

    `lag` counts what lies beyond the offsets of the last checkpoint, so it falls in steps. `job` is the state of the
    job, None where the cluster has none of that name.
    """

    topic: str
    messages: int
    lag: int
    table: str
    rows: int
    deleted: int
    dead_letters: int
    rate: float
    seconds: float
    job: str | None

    def __str__(self) -> str:
        lines = {
            "job": self.job or "none runs: embedstream submit starts it",
            f"topic {self.topic}": f"{self.messages:,} messages, {self.lag:,} beyond the last checkpoint",
            f"table {self.table}": f"{self.rows:,} rows, {self.deleted:,} ids deleted",
            "dead letters": f"{self.dead_letters:,}",
            "rate": f"{self.rate:,.1f} rows/s over the last {self.seconds:.0f} s",
        }
        width = max(map(len, lines))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())


def read_status(settings: Settings, seconds: float = 2.0) -> Status:
    """Raises ConfigError, or StoreUnavailable, where a part of the world does not answer."""
    with store.database(settings) as connection:
        before = _written(connection, settings)
        began = time.monotonic()
        positions = kafka.positions(settings)
        dead = kafka.count(settings, settings.kafka_dead_letter_topic)
        job = _job_state(settings)
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))
        elapsed = time.monotonic() - began
        written = _written(connection, settings)
        rows, deleted = _rows(connection, settings)
    return Status(
        topic=settings.kafka_input_topic,
        messages=sum(position.end - position.first for position in positions),
        lag=sum(position.lag for position in positions),
        table=settings.pgvector_table,
        rows=rows,
        deleted=deleted,
        dead_letters=dead,
        rate=(written - before) / elapsed,
        seconds=elapsed,
        job=job,
    )


def _job_state(settings: Settings) -> str | None:
    try:
        job = flink.Cluster(settings).job(settings.flink_job_name)
    except EmbedstreamError:
        return "unknown: no JobManager answers"
    return job.state if job else None


def _rows(connection: psycopg.Connection[Any], settings: Settings) -> tuple[int, int]:
    store.pinned_space(connection, settings)
    names = store.Names.of(settings.pgvector_table)
    statement = SQL(
        "SELECT (SELECT count(*) FROM {table}), (SELECT count(*) FROM {ledger} WHERE state = 'deleted')"
    ).format(table=names.table, ledger=names.ledger)
    rows, deleted = connection.execute(statement).fetchall()[0]
    return rows, deleted


def _written(connection: psycopg.Connection[Any], settings: Settings) -> int:
    """Versions that the ledger has taken so far, from the server's own statistics: a scan would cost too much."""
    names = store.Names.of(settings.pgvector_table)
    statement = "SELECT coalesce(sum(n_tup_ins + n_tup_upd), 0) FROM pg_stat_user_tables WHERE relid = to_regclass(%s)"
    connection.execute("SELECT pg_stat_clear_snapshot()")
    return int(connection.execute(statement, [names.ledger.as_string(connection)]).fetchall()[0][0])
