"""Builds and drops an index, beside writers and readers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg

from embedstream import store
from embedstream.errors import ConfigError, EmbedstreamError
from embedstream.index.seen import needs
from embedstream.index.state import Catalog, command

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from embedstream.index.state import Index, Kind
    from embedstream.settings import Settings

_POLL = 0.5
_PATIENCE = 10.0


class Stopped(EmbedstreamError):
    """The build was told to end before it was done."""


def build(
    settings: Settings,
    watch: Callable[[Index], None] = lambda _: None,
    is_stopped: Callable[[], bool] = lambda: False,
    kind: Kind = "vector",
) -> Index:
    """Build the index unless there is one; one that is invalid, because its build ended early, is built anew.

    A vector index of ours of another type than INDEX_TYPE is used until this one is built, and dropped then.
    `watch` and `is_stopped` are called about twice a second. However a build ends early, it is ended in the server as
    well, and what it leaves is removed if possible. Raises Stopped; ConfigError where somebody builds already.
    """
    with store.database(settings) as looking, store.database(settings) as building:
        catalog = Catalog(building, settings, kind)
        index = catalog.look_for_built()
        if index.state == "valid" and not catalog.others():
            return index
        store.need_session(building, "a build of the index")
        if index.state == "building" or catalog.ask("lock") == (False,):
            raise ConfigError(_already(settings, index, kind))
        if index.state != "valid":
            _drop(building, index.name)
            _prepare(building, settings, needs(catalog, settings, catalog.count()).memory_mb)
            observer = Catalog(looking, settings, kind)

            def look() -> None:
                watch(observer.look_for_built())
                if is_stopped():
                    raise Stopped("the build of the index was stopped")

            _create(building, catalog, look)
        _drop(building, *catalog.others())
        catalog.tell("forget_drop")
        return catalog.look_for_built()


def drop(settings: Settings, kind: Kind = "vector") -> Index:
    """Drop the index, after ending its build where one is under way, and return what there was.

    It is not built by itself again until a backlog has come and gone. Raises ConfigError where a builder does not end.
    """
    with store.database(settings) as connection:
        store.need_session(connection, "dropping the index")
        catalog = Catalog(connection, settings, kind)
        catalog.tell("mark_dropped")
        found = catalog.look()
        deadline = time.monotonic() + _PATIENCE
        while (index := catalog.look_for_built()).state == "building" or catalog.ask("lock") == (False,):
            if time.monotonic() > deadline:
                raise ConfigError(_already(settings, index, kind))
            if index.pid:
                connection.execute("SELECT pg_cancel_backend(%s)", [index.pid])
            time.sleep(_POLL)
        _drop(connection, found.name, index.name, *catalog.others())
        return found


def _already(settings: Settings, index: Index, kind: Kind) -> str:
    """One index of a table is built at a time, of whatever kind: builds wait for each other's transactions."""
    table = settings.pgvector_table
    if index.state != "building":
        return f"another index of table {table} is being built: embedstream index status"
    backend = f" (backend {index.pid})" if index.pid else ""
    return f"the index of table {table} is being built already{backend}: {command('status', kind)}"


def _prepare(connection: psycopg.Connection[Any], settings: Settings, memory_mb: int) -> None:
    """Limits of the role or the database are meant for queries; a client that is gone is noticed while it builds."""
    facts = {
        "maintenance_work_mem": f"{memory_mb}MB",
        "max_parallel_maintenance_workers": settings.index_workers,
        "statement_timeout": 0,
        "lock_timeout": 0,
        "client_connection_check_interval": "5s",
    }
    for name, value in facts.items():
        connection.execute("SELECT set_config(name, %s, false) FROM pg_settings WHERE name = %s", [str(value), name])


def _create(connection: psycopg.Connection[Any], catalog: Catalog, look: Callable[[], None]) -> None:
    try:
        _run(connection, catalog, look)
    except psycopg.errors.DiskFull:
        # Containers have little shared memory (64 MB, unless told otherwise); one process alone needs none.
        _drop(connection, catalog.look_for_built().name)
        connection.execute("SET max_parallel_maintenance_workers = 0")
        _run(connection, catalog, look)


def _run(connection: psycopg.Connection[Any], catalog: Catalog, look: Callable[[], None]) -> None:
    with ThreadPoolExecutor(1, "index") as thread:
        done = thread.submit(catalog.tell, "create")
        try:
            while wait([done], _POLL).not_done:
                look()
        except BaseException:
            connection.cancel_safe(timeout=_PATIENCE)
            with suppress(psycopg.Error):
                done.result()
            _tidy(connection, catalog)
            raise
        done.result()


def _tidy(connection: psycopg.Connection[Any], catalog: Catalog) -> None:
    """What cannot be removed at once stays, and is mended by the next build."""
    with suppress(psycopg.Error):
        connection.execute("SET lock_timeout = '2s'")
        _drop(connection, catalog.look_for_built().name)


def _drop(connection: psycopg.Connection[Any], *names: str | None) -> None:
    """Those that there are; the names come from PostgreSQL, with schemas, and quotes where they need them."""
    for name in filter(None, names):
        connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}".encode())
