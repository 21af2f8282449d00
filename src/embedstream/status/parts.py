"""What each part of the pipeline says of itself."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstream import canary, embedding, flink, kafka, services, store
from embedstream.errors import EmbedstreamError
from embedstream.index.state import Catalog
from embedstream.migrate.standing import Standing as Migrating
from embedstream.migrate.standing import read_standing
from embedstream.standing import Standing, look

if TYPE_CHECKING:
    import psycopg

    from embedstream.index.state import Index
    from embedstream.settings import Settings

# A service that answers its health at all does so at once.
_SERVICE_TIMEOUT = 5.0
OUTCOMES = ("stored", "unchanged", "superseded", "late", "deleted", "filtered", "rejected")
_SUMS = ("embedded_texts", "embed_calls_saved", "retries", "waited_ms")
_PERCENTILES = {"p50": "latency_p50_ms", "p95": "latency_p95_ms", "p99": "latency_p99_ms"}


class Queue(NamedTuple):
    """The topic, and how far table and group are in it."""

    standing: Standing
    dead_letters: int


@dataclass(frozen=True)
class Rows:
    """The table; `versions` counts what the ledger has taken so far, `late` what lost only because of its time.

    `losses` says what is gone that had been there, `forgotten` where the database went back in time.
    """

    rows: int
    deleted: int
    versions: int
    index: Index
    late: int | None = None
    losses: str = ""
    forgotten: tuple[str, ...] = ()
    migration: Migrating | None = None


class Work(NamedTuple):
    """The job's state; the numbers are those of its operators since they started, None where none runs."""

    job: str | None
    since_checkpoint_seconds: float | None = None
    failed_checkpoints: int | None = None
    outcomes: dict[str, int] | None = None
    counts: dict[str, int] | None = None
    latency_ms: dict[str, int] | None = None


class Service(NamedTuple):
    """What it embeds with; `remote` is what it says of a server behind it, `trouble` why nothing comes of that."""

    space: str
    remote: dict[str, Any] | None = None
    trouble: str | None = None


def read_queue(settings: Settings) -> Queue:
    """Where the database is away, the group's offsets tell how far the pipeline is."""
    standing = look(settings, lambda: store.database(settings))
    return Queue(standing, kafka.count(settings, settings.kafka_dead_letter_topic))


def read_rows(settings: Settings) -> Rows:
    with store.database(settings) as connection:
        names, index = store.Names.of(settings.pgvector_table), Catalog(connection, settings).look()
        store.check_newest(connection, settings)
        counts = store.read_counts(connection, settings)
        return Rows(
            counts.rows, counts.deleted, _versions(connection, names), index,
            late=counts.late, losses=store.losses(counts), forgotten=tuple(store.read_forgotten(connection, settings)),
            migration=read_standing(connection, settings),
        )  # fmt: skip


def read_versions(settings: Settings) -> int:
    with store.database(settings) as connection:
        return _versions(connection, store.Names.of(settings.pgvector_table))


def _versions(connection: psycopg.Connection[Any], names: store.Names) -> int:
    """From the server's own statistics: a scan would cost too much."""
    statement = "SELECT coalesce(sum(n_tup_ins + n_tup_upd), 0) FROM pg_stat_user_tables WHERE relid = to_regclass(%s)"
    return int(connection.execute(statement, [names.ledger.as_string(connection)]).fetchall()[0][0])


def read_work(settings: Settings, cluster: flink.Cluster) -> Work:
    job = cluster.job(settings.flink_job_name)
    if job is None:
        return Work(None)
    progress = cluster.progress(job)
    found = cluster.metrics(job, {*OUTCOMES, *_SUMS, *_PERCENTILES.values()})
    return Work(
        job.state,
        progress.since_checkpoint,
        progress.failed_checkpoints,
        {name: int(found[name].sum) for name in OUTCOMES if name in found} or None,
        {name: int(found[name].sum) for name in _SUMS if name in found} or None,
        {name: int(found[metric].max) for name, metric in _PERCENTILES.items() if metric in found} or None,
    )


def read_service(settings: Settings) -> Service:
    """Where the database is away, nobody tells whether a remote server's vectors moved."""
    timeout = min(_SERVICE_TIMEOUT, settings.embedding_service_timeout)
    settings = settings.model_copy(update={"embedding_service_timeout": timeout})
    own, space = services.find(settings)
    remote = embedding.read_remote(own)
    if remote is None:
        return Service(str(space))
    standstill = remote["standstill"]
    return Service(str(space), remote, standstill["message"] if standstill else _moved(own))


def _moved(settings: Settings) -> str | None:
    with suppress(EmbedstreamError), store.database(settings) as connection:
        kept, now = store.read_canary(connection, settings), embedding.read_canary(settings)
        return canary.moved(kept, now) if kept is not None and now is not None else None
    return None
