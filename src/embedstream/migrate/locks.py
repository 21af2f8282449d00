"""Work under locks that others wait for: for a moment, or not at all."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstream.settings import Settings

T = TypeVar("T")

WAIT_MS = 40
"""So long a lock is waited for that readers would queue behind."""
WRITERS_MS = 3000
"""So long one that only writers queue behind: vacuum gives way after one second."""
PATIENCE = 60.0
_PAUSE = 0.3


def shortly(
    connection: psycopg.Connection[Any],
    settings: Settings,
    work: Callable[[], T],
    what: str,
    patience: float = PATIENCE,
) -> T:
    """Do the work in one transaction, again and again until it gets its locks; `work` sets no lock_timeout itself, or
    by `limit`.

    Raises ConfigError that names who holds them where that lasts longer than `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            with connection.transaction():
                limit(connection, WRITERS_MS)
                return work()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as exc:
            if time.monotonic() > deadline:
                raise ConfigError(f"{what}: {_held(connection, settings)}: end them, or try again") from exc
        time.sleep(_PAUSE * random.uniform(0.5, 1.5))  # noqa: S311


def limit(connection: psycopg.Connection[Any], milliseconds: int) -> None:
    """How long each lock of the transaction is waited for from here on."""
    connection.execute("SELECT set_config('lock_timeout', %s, true)", [str(milliseconds)])


def _held(connection: psycopg.Connection[Any], settings: Settings) -> str:
    query = (
        "SELECT a.pid, coalesce(nullif(a.application_name, ''), a.backend_type), min(a.xact_start)"
        " FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) JOIN pg_class AS c ON c.oid = l.relation"
        " WHERE l.granted AND a.pid <> pg_backend_pid() AND starts_with(c.relname, %s)"
        " GROUP BY 1, 2 ORDER BY 3 LIMIT 3"
    )
    table = settings.pgvector_table.rpartition(".")[2]
    found = connection.execute(query, [table]).fetchall()
    who = ", ".join(f"backend {pid} ({name}, since {since:%H:%M:%S} UTC)" for pid, name, since in found if since)
    return f"others hold table {settings.pgvector_table}: {who or 'who cannot be told now'}"
