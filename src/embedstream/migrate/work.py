"""Fills the other table, whichever it is: copies, embeds, builds its indexes, until nothing is missing."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import psycopg
from psycopg.types.json import Jsonb

from embedstream import store
from embedstream.errors import ConfigError
from embedstream.index.build import build
from embedstream.index.state import KINDS, Catalog
from embedstream.migrate import indexes
from embedstream.migrate.filling import Text, filler
from embedstream.migrate.locks import limit
from embedstream.migrate.relations import DOCUMENTS, ROWS, beside, layout_of, pairs_of, ready
from embedstream.migrate.state import needed
from embedstream.retry import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from embedstream.display import Watch
    from embedstream.migrate.filling import Filler, Made
    from embedstream.migrate.state import Migration, Role
    from embedstream.migrate.throttle import Throttle
    from embedstream.settings import Settings

Ended: TypeAlias = Literal["complete", "paused"]

# A chunk is shorter than most texts, and each has a vector.
BATCHES = {ROWS: {"rows": 512, "characters": 1_000_000}, DOCUMENTS: {"rows": 512, "characters": 200_000}}
# Less than PostgreSQL waits until it looks for a deadlock: of two, it is this one that gives way, and no live writer.
_GIVE_WAY_MS = 200
_KEPT_REFUSALS = 20
_WEIGHT = 0.2


def work(settings: Settings, throttle: Throttle, watch: Watch, say: Callable[[str], None] = lambda _: None) -> Ended:
    """Work on the migration that is under way until the other table lacks nothing, or somebody pauses it.

    Whatever ends it, it goes on where it was when called again. Raises ConfigError where another process works on it,
    and where the migration ends or moves on meanwhile.
    """
    with _alone(settings) as (connection, migration):
        sql, found = ready(connection, settings, migration.role)
        with filler(settings, connection, sql, found, Patience()) as other:
            return _Work(settings, connection, sql, other, throttle).run(migration.role, watch, say)


@contextmanager
def _alone(settings: Settings) -> Iterator[tuple[psycopg.Connection[Any], Migration]]:
    with store.database(settings, long=True) as connection:
        migration = needed(connection, settings, "resume")
        store.need_session(connection, "a migration")
        sql, _ = ready(connection, settings, migration.role)
        if connection.execute(sql["lock_work"]).fetchone() == (False,):
            raise ConfigError(
                f"another process works on the migration of table {settings.pgvector_table} already: "
                "embedstream migrate status shows how far it is"
            )
        try:
            yield connection, migration
        except psycopg.errors.UndefinedTable as exc:
            raise ConfigError(
                f"the migration of table {settings.pgvector_table} moved on meanwhile: embedstream migrate status"
            ) from exc


class _Paused(Exception):
    """Somebody paused the migration."""


class _Work:
    def __init__(
        self,
        settings: Settings,
        connection: psycopg.Connection[Any],
        sql: dict[str, Any],
        filler: Filler,
        throttle: Throttle,
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._sql = sql
        self._filler = filler
        self._throttle = throttle
        self._layout = layout_of(connection, settings)
        self._batch = BATCHES[self._layout]
        self._refused: dict[str, str] = {}
        self._rate: float | None = None

    def run(self, role: Role, watch: Watch, say: Callable[[str], None]) -> Ended:
        try:
            rows, there, _ = self._connection.execute(self._sql["counts"]).fetchall()[0]
            with watch("copying and embedding", rows) as update:
                self._copy(update, there)
            with watch("embedding what changed meanwhile", None) as update:
                self._fill(update)
            self._build(role, say)
            with watch("embedding what changed meanwhile", None) as update:
                self._fill(update)
        except _Paused:
            return "paused"
        return "complete"

    def _copy(self, update: Callable[[int], None], done: int) -> None:
        while not (migration := self._standing()).is_copied:
            began = time.monotonic()
            after = {"after": migration.copied_to, **self._batch}
            texts = self._texts("next_texts", after)
            made = self._filler.embed(texts)
            facts = {"copied_to": texts[-1].id if texts else migration.copied_to, "is_copied": not texts}
            done += self._written(made, facts)
            self._worked(made, began)
            update(done)

    def _fill(self, update: Callable[[int], None]) -> None:
        """One pass; what is refused is passed over."""
        after, done = "", 0
        while True:
            self._standing()
            began = time.monotonic()
            texts = self._texts("pending_texts", {"after": after, **self._batch})
            if not texts:
                return
            made = self._filler.embed(texts)
            self._written(made)
            after, done = texts[-1].id, done + len(texts)
            self._worked(made, began)
            update(done)

    def _texts(self, statement: str, facts: dict[str, Any]) -> list[Text]:
        return [Text(*row) for row in self._connection.execute(self._sql[statement], facts)]

    def _written(self, made: Made, copied: dict[str, Any] | None = None) -> int:
        """In one transaction, which gives way to any other that it would wait for long; the number of rows."""
        while True:
            try:
                with self._connection.transaction():
                    limit(self._connection, _GIVE_WAY_MS)
                    done = self._filler.write(made, copies=copied is not None) if made.texts else 0
                    if copied:
                        self._connection.execute(self._sql["copied"], copied)
                    return done
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                time.sleep(_GIVE_WAY_MS / 1000)

    def _standing(self) -> Migration:
        migration = needed(self._connection, self._settings, "resume")
        if migration.paused:
            raise _Paused
        return migration

    def _worked(self, made: Made, began: float) -> None:
        """Note what was done, and rest."""
        self._refused |= made.refused
        self._throttle.rest(time.monotonic() - began)
        rate = len(made.texts) / max(time.monotonic() - began, 1e-3)
        self._rate = rate if self._rate is None else (1 - _WEIGHT) * self._rate + _WEIGHT * rate
        first = dict(list(self._refused.items())[:_KEPT_REFUSALS])
        self._connection.execute(self._sql["worked"], {"rate": self._rate, "refused": Jsonb(first, dumps=json.dumps)})

    def _build(self, role: Role, say: Callable[[str], None]) -> None:
        """The indexes that the table has, the other one gets as well."""
        self._standing()
        other = beside(self._settings, role)
        indexes.make_pending(self._connection, self._sql, self._settings, self._layout)
        for pair in pairs_of(self._layout, self._settings, role):
            self._connection.execute(b"ANALYZE " + pair.other.as_string().encode())
        for kind in KINDS:
            lives = Catalog(self._connection, self._settings, kind).look().state == "valid"
            if lives and Catalog(self._connection, other, kind).look().state != "valid":
                say(f"building the {kind} index of table {other.pgvector_table}")
                build(other, kind=kind)
        indexes.make_others(self._connection, self._sql, self._settings, self._layout, role)
