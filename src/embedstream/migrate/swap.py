"""The cut-over, and the way back: two tables change places, in one transaction."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstream import store
from embedstream.errors import ConfigError, EmbeddingUnavailable
from embedstream.index.state import KINDS, NAMES, Catalog
from embedstream.migrate import begin, indexes
from embedstream.migrate.filling import Text, filler, prepared
from embedstream.migrate.locks import PATIENCE, WAIT_MS, limit, shortly
from embedstream.migrate.relations import (
    DOCUMENTS,
    ROWS,
    Layout,
    beside,
    filled,
    layout_of,
    named,
    pairs_of,
    ready,
    turned,
)
from embedstream.migrate.state import ROLES, needed
from embedstream.retry import Patience

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from psycopg.sql import Identifier

    from embedstream.migrate.relations import Sql
    from embedstream.migrate.state import Beside, Migration, Role, Step
    from embedstream.settings import Settings
    from embedstream.space import Space

_FEW: dict[Layout, dict[str, int]] = {
    ROWS: {"rows": 2000, "characters": 8_000_000},
    DOCUMENTS: {"rows": 200, "characters": 500_000},
}
"""So many that still lack their vectors are embedded while writers wait; more are left to `migrate resume`."""
_ANSWER_SECONDS = 10.0


class Switched(NamedTuple):
    """`blocked_ms` is how long nobody could read, `waited_ms` how long nobody could write."""

    space: Space
    blocked_ms: float
    waited_ms: float


class _Lacks(ConfigError):
    """The other table is not ready to take the name."""


def switch(settings: Settings, step: Step, patience: float = PATIENCE) -> Switched:
    """Have the other table take the name: `cut-over` to the new space, `roll-back` to the former one.

    Raises ConfigError where something is missing of it, with what that is, and where locks are not to be had within
    `patience` seconds.
    """
    with store.database(settings, long=True) as connection:
        migration = needed(connection, settings, step)
        check(connection, settings, migration, step)
        prepared(connection, store.statements(settings.pgvector_table)["limits"])
        turn = _Turn(connection, settings, step)
        return shortly(connection, settings, turn, f"migrate {step}", patience)


def check(connection: psycopg.Connection[Any], settings: Settings, migration: Migration, step: Step) -> None:
    """Raises ConfigError with what the other table lacks; it reads both tables whole, beside readers and writers."""
    sql, _ = ready(connection, settings, migration.role)
    lacks = list(_lacking(connection, settings, migration, sql))
    if lacks:
        raise _Lacks(
            f"migrate {step}: the other table is not ready: {'; '.join(lacks)}: embedstream migrate resume goes on"
        )


def _lacking(connection: psycopg.Connection[Any], settings: Settings, migration: Migration, sql: Sql) -> Iterator[str]:
    role, table, layout = migration.role, settings.pgvector_table, layout_of(connection, settings)
    if not migration.is_copied:
        rows, there, _ = connection.execute(sql["counts"]).fetchall()[0]
        yield f"{max(0, rows - there):,} of {rows:,} {layout.unit} are not copied yet"
        return
    refused = f", of which the service refuses some ({_first(migration)})" if migration.refused else ""
    (pending,) = connection.execute(sql["pending"], {"most": None}).fetchall()[0]
    if pending > _FEW[layout]["rows"] or (pending and migration.refused):
        yield f"{pending:,} {layout.unit} have no {layout.vector} yet{refused}"
    missing, extra, other = connection.execute(sql["differing"]).fetchall()[0]
    if missing or extra or other:
        yield f"{missing:,} {layout.unit} are missing, {extra:,} are too many, {other:,} are others"
    if not indexes.has_pending(connection, sql, settings, layout):
        yield "the index of what lacks its vector is missing"
    for kind in KINDS:
        has = Catalog(connection, settings, kind).look().state == "valid"
        if has and Catalog(connection, beside(settings, role), kind).look().state != "valid":
            yield f"the {NAMES[kind]} that table {table} has is missing"
    for pair in pairs_of(layout, settings, role):
        for each in indexes.lacking(connection, sql, pair):
            yield f"index {each.name} of table {table} is missing"


def _first(migration: Migration) -> str:
    id, why = next(iter(migration.refused.items()))
    return f"{id}: {why}"


class _Turn:
    """One try, in the transaction that it is called in."""

    def __init__(self, connection: psycopg.Connection[Any], settings: Settings, step: Step) -> None:
        self._connection = connection
        self._settings = settings
        self._step = step

    def __call__(self) -> Switched:
        connection, settings = self._connection, self._settings
        migration = needed(connection, settings, self._step)
        sql, found = ready(connection, settings, migration.role)
        began = time.monotonic()
        connection.execute(sql["lock_writers"])
        layout = layout_of(connection, settings)
        self._complete(sql, found, layout)
        script = "\n".join(self._script(migration, sql, found, layout))
        limit(connection, WAIT_MS)
        locked = time.monotonic()
        connection.execute(sql["lock_readers"])
        connection.execute(script.encode())
        now = time.monotonic()
        return Switched(found.space, round(1000 * (now - locked), 1), round(1000 * (now - began), 1))

    def _complete(self, sql: Sql, found: Beside, layout: Layout) -> None:
        """Embed what the last writers left, and make sure that nothing is missing and that the mirror held."""
        rows = self._connection.execute(sql["pending_texts"], {"after": "", **_FEW[layout]})
        texts = [Text(*row) for row in rows]
        if texts and self._pending(sql) == len(texts):
            self._fill(sql, found, texts, layout)
        if pending := self._pending(sql):
            raise _Lacks(
                f"migrate {self._step}: {pending:,} {layout.unit} have no {layout.vector} yet: "
                "embedstream migrate resume goes on"
            )
        mirrored = pairs_of(layout, self._settings, "next")[-1].own.as_string()
        (watched,) = self._connection.execute(sql["count_watchers"], {"table": mirrored}).fetchall()[0]
        if not watched:
            raise _Lacks(
                f"migrate {self._step}: somebody removed the triggers of table {self._settings.pgvector_table}, so "
                "that the other one is not what it is: embedstream migrate abort, and begin anew"
            )

    def _pending(self, sql: Sql) -> int:
        (pending,) = self._connection.execute(sql["pending"], {"most": None}).fetchall()[0]
        return int(pending)

    def _fill(self, sql: Sql, found: Beside, texts: list[Text], layout: Layout) -> None:
        """Writers wait meanwhile, so that the service has to answer at once."""
        own = self._settings.model_copy(update={"embedding_service_timeout": _ANSWER_SECONDS})

        def refuse(_: float) -> None:
            raise EmbeddingUnavailable(f"the service at {found.service_url} does not answer")

        try:
            with filler(own, self._connection, sql, found, Patience(sleep=refuse)) as other:
                other.write(other.embed(texts))
        except EmbeddingUnavailable as exc:
            raise _Lacks(
                f"migrate {self._step}: {len(texts):,} {layout.unit} have no {layout.vector} yet, and {exc}: "
                "start it, and try again"
            ) from exc

    def _script(self, migration: Migration, sql: Sql, found: Beside, layout: Layout) -> Iterator[str]:
        """What is done while nobody can read: all of it looks at no row but those of the spaces."""
        connection, settings, role = self._connection, self._settings, migration.role
        to = turned(role)
        after = filled(connection, settings, to, store.pinned_space(connection, settings))
        store.see_pgvector(connection)
        rights = self._rights(sql, layout)
        moves = list(zip(pairs_of(layout, settings, role), pairs_of(layout, settings, to), strict=True))
        yield sql["leave"].as_string(connection)
        yield from (_renamed(now.own, then.other) for now, then in moves)
        yield _renamed(named(settings, f"{role}_space"), named(settings, f"{to}_space"))
        yield sql["arrive"].as_string(connection)
        yield from (_renamed(now.other, now.own) for now, _ in moves)
        yield from (f"{each};" for each in indexes.renamings(connection, sql, settings, layout, role))
        yield after["mirror"].as_string(connection)
        yield after["watch_writers"].as_string(connection)
        yield after["exchange_spaces"].as_string(connection)
        yield sql["switched"].as_string(connection)
        view = store.vectors_view(settings.pgvector_table, found.space.dimension, is_chunked=layout.is_chunked)
        yield view.as_string(connection)
        yield from (f"{each};" for each in rights)

    def _rights(self, sql: Sql, layout: Layout) -> list[str]:
        """The view is made anew, of another type; a table's own rights go with it, and those given since are added."""
        connection = self._connection
        view = store.Names.of(self._settings.pgvector_table).vectors.as_string()
        owner, *_ = connection.execute(sql["owned"], {"relation": view}).fetchall()[0]
        own = [pair.own.as_string() for pair in pairs_of(layout, self._settings, "next")]
        return [
            f"ALTER VIEW {view} OWNER TO {owner}",
            *(line for name in (view, *own) for line in begin.grants(connection, sql, name, name)),
        ]


def _renamed(relation: Identifier, to: Identifier) -> str:
    """A new name is one without a schema."""
    *_, name = to.as_string().split(".")
    return f"ALTER TABLE {relation.as_string()} RENAME TO {name};"


def finish(settings: Settings, step: Step, patience: float = PATIENCE) -> Role:
    """End the migration: after the cut-over (`finish`) the previous table goes, before it (`abort`) the next one.

    Returns which. The table of the name stays as it is.
    """
    with store.database(settings, long=True) as connection:
        migration = needed(connection, settings, step)
        sql = filled(connection, settings, migration.role)
        mirrored = pairs_of(layout_of(connection, settings), settings, "next")[-1].own.as_string()
        (has_check,) = connection.execute(sql["has_embedded_check"], {"table": mirrored}).fetchall()[0]
        if has_check:
            connection.execute(sql["settle"])

        def end() -> None:
            needed(connection, settings, step)
            connection.execute(sql["lock_vacuum"])
            limit(connection, WAIT_MS)
            connection.execute(sql["lock_all"])
            script = [sql["unwatch_writers"].as_string(connection)]
            script += [sql["settled"].as_string(connection)] if has_check else []
            script += [f"{sql[name].as_string(connection)};" for name in ("drop_other", "drop_pending")]
            connection.execute("\n".join(script).encode())

        shortly(connection, settings, end, f"migrate {step}", patience)
        return ROLES[migration.state]
