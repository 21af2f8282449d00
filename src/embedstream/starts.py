"""Where a job begins in each partition, and why: nothing is left out, whatever became of table, topic and group."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from embedstream import kafka, store
from embedstream.errors import ConfigError
from embedstream.standing import moved_from

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    import psycopg

    from embedstream.kafka import Identity, Position
    from embedstream.settings import Settings
    from embedstream.store import Progress

    Table: TypeAlias = Literal["sound", "earlier", "lossy", "adopted", "replayed"]
    """Of an `earlier` version: it keeps no progress yet; `lossy`: rows are gone that it had; `adopted` and `replayed`:
    it reads anew, another topic or its own.
    """


class Start(NamedTuple):
    """The first offset that a job reads of a partition."""

    partition: int
    offset: int
    why: str

    def __str__(self) -> str:
        return f"partition {self.partition}: from offset {self.offset} ({self.why})"


_ANEW = {
    "adopted": "the topic is adopted",
    "replayed": "the topic is read again",
    "lossy": "the table has lost rows",
}


def choose(position: Position, progress: Progress | None, table: Table) -> Start:
    """The smaller of where table and group stand; the first record where either is not known.

    Dead letters are flushed at checkpoints, so the group's offset bounds them. To read a record again costs no
    embedding call.
    """
    first, end, committed = position.first, position.end, position.committed
    begin, why = first, ""
    if table in _ANEW:
        why = _ANEW[table]
    elif table == "earlier" and committed is not None and committed <= end:
        begin, why = committed, "where the group stands: the table is of a version that kept no progress"
    elif progress is None:
        why = "the table has nothing of it"
    elif progress.next > end:
        why = f"the table stands at {progress.next}, beyond its end {end}"
    elif committed is None:
        why = "the group has no offset of it"
    elif committed > end:
        why = f"the group stands at {committed}, beyond its end {end}"
    elif committed < progress.next:
        begin, why = committed, f"where the group stands, the table is at {progress.next}"
    else:
        begin, why = progress.next, "where the table stands"
    if begin < first:
        return Start(position.partition, first, f"the log begins here: {first - begin} offsets before it were not read")
    return Start(position.partition, begin, why)


def check_identity(settings: Settings, progress: Mapping[int, Progress], identity: Identity) -> None:
    """Raises ConfigError where the table was made from another topic of this name, or from one of another cluster."""
    if moved := moved_from(progress, identity):
        raise ConfigError(
            f"table {settings.pgvector_table} was made from topic {settings.kafka_input_topic} of {moved.what} "
            f"{', '.join(moved.before)}, but the {moved.what} is {moved.id} now (recreated, mirrored or moved): "
            "embedstream submit --replace --adopt-topic reads it from its start, and lets its records win over "
            "stored versions of the same time; or set PGVECTOR_TABLE to another table"
        )


def begin(settings: Settings, *, adopts: bool = False, replays: bool = False) -> list[Start]:
    """Choose where the next job begins, and write it into the table and the group; no job may run meanwhile.

    One that `replays` reads all that the topic has again, and its records win over what was made of them before.
    Raises ConfigError where the group has members that subscribed: they commit in the job's place.
    """
    positions, identity = kafka.positions(settings), kafka.identity(settings)
    with store.database(settings, long=True) as connection, connection.transaction():
        store.without_limits(connection, local=True)
        table, progress = _look(connection, settings, adopts=adopts)
        if replays and table != "adopted":
            store.replay(connection, settings, {position.partition: position.first for position in positions})
            table = "replayed"
        if not adopts:
            store.check_order(store.read_terms(connection, settings), settings)
            check_identity(settings, progress, identity)
        starts = [choose(position, progress.get(position.partition), table) for position in positions]
        store.begin(connection, settings, identity, starts, anew=table in _ANEW)
    kafka.set_offsets(settings, {start.partition: start.offset for start in starts})
    return starts


def _look(
    connection: psycopg.Connection[Any], settings: Settings, *, adopts: bool
) -> tuple[Table, Mapping[int, Progress]]:
    """What the table is, with its progress; what it lost is made ready to be written again."""
    terms = store.read_terms(connection, settings)
    progress = store.read_progress(connection, settings)
    store.lock(connection, settings)
    if adopts:
        store.adopt(connection, settings)
        return "adopted", {}
    counts = store.read_counts(connection, settings)
    if terms and not terms.keeps_progress:
        return ("earlier" if counts.ids else "sound"), progress
    if not counts.are_sound:
        store.forget_missing(connection, settings)
        return "lossy", progress
    return "sound", progress


def origin(settings: Settings) -> dict[str, str]:
    """The ids of cluster, topic and table, as far as they are told: the same whatever they are called from here.

    Raises ConfigError, or RetryLater, where Kafka or the database does not answer.
    """
    identity = kafka.identity(settings)
    with store.database(settings) as connection:
        terms = store.read_terms(connection, settings)
    ids = {"CLUSTER_ID": identity.cluster_id, "TOPIC_ID": identity.topic_id, "TABLE_ID": terms.id if terms else None}
    return {name: id for name, id in ids.items() if id}


def as_arguments(settings: Settings, chosen: Sequence[Start]) -> list[str]:
    """What the job is told on its command line: see `embedstream.job`."""
    ids = origin(settings)
    offsets = ",".join(f"{start.partition}:{start.offset}" for start in chosen)
    topic = [f"--topic-id={ids['TOPIC_ID']}"] if "TOPIC_ID" in ids else []
    return [f"--starts={offsets}", *topic, f"--origin={json.dumps(ids)}"]
