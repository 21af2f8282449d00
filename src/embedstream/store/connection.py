"""Connections to PostgreSQL, and what its errors mean."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
from psycopg.types.datetime import TimestamptzLoader

from embedstream.errors import ConfigError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from psycopg.abc import Buffer

    from embedstream.settings import Settings

_UTC = frozenset({"UTC", "Etc/UTC"})
_LIMITS = ("statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout", "lock_timeout")


def connect(settings: Settings) -> psycopg.Connection[Any]:
    """An autocommitting connection that yields times in UTC; psycopg.OperationalError where the database is away.

    It asks nothing of the session that a pooler in transaction mode could not give: no options, no prepared statements.
    """
    connection: psycopg.Connection[Any] = psycopg.connect(**parameters(settings))
    configure(connection)
    return connection


def parameters(settings: Settings) -> dict[str, Any]:
    """What `connect` connects with, for a pool that does so itself and then calls `configure`."""
    return {
        "host": settings.pgvector_host,
        "port": settings.pgvector_port,
        "dbname": settings.pgvector_db,
        "user": settings.pgvector_user,
        "password": _password(settings),
        "sslmode": settings.pgvector_sslmode,
        "sslrootcert": settings.pgvector_sslrootcert,
        "sslcert": _path(settings.pgvector_sslcert),
        "sslkey": _path(settings.pgvector_sslkey),
        "connect_timeout": 5,
        "application_name": "embedstream",
        "client_encoding": "UTF8",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
        "autocommit": True,
        "prepare_threshold": None,
    }


def _path(path: Path | None) -> str | None:
    return str(path) if path else None


def _password(settings: Settings) -> str | None:
    """What the file says now goes before what was read when the process began: a token may have expired since."""
    if settings.pgvector_password_file:
        try:
            return settings.pgvector_password_file.read_text(encoding="utf-8").strip()
        except OSError as exc:
            if settings.pgvector_password is None:
                raise psycopg.OperationalError(f"PGVECTOR_PASSWORD_FILE: {exc}") from exc
    return settings.pgvector_password.get_secret_value() if settings.pgvector_password else None


def configure(connection: psycopg.Connection[Any]) -> None:
    """Have a new connection yield times in UTC."""
    if not (connection.info.parameter_status("DateStyle") or "ISO").startswith("ISO"):
        connection.execute("SET datestyle = 'ISO, YMD'")  # poolers keep it apart for each client
    if connection.info.parameter_status("TimeZone") not in _UTC:
        connection.adapters.register_loader("timestamptz", _UtcLoader)


class _UtcLoader(TimestamptzLoader):
    def load(self, data: Buffer) -> datetime:
        return super().load(data).astimezone(UTC)


def is_pooled(connection: psycopg.Connection[Any]) -> bool:
    """Whether something stands between this client and the server: its backend is not the one that greeted us."""
    found = connection.execute("SELECT pg_backend_pid()").fetchone()
    return found != (connection.info.backend_pid,)


def need_session(connection: psycopg.Connection[Any], what: str) -> None:
    """Raises ConfigError where a pooler stands between: it may give each transaction to another backend."""
    if is_pooled(connection):
        raise ConfigError(
            f"{what} needs a session of its own, and a pooler stands between: "
            "set PGVECTOR_HOST and PGVECTOR_PORT to the server itself for this command"
        )


def without_limits(connection: psycopg.Connection[Any], *, local: bool) -> None:
    """Lift the time limits of the role or the database, which are meant for queries.

    For the transaction (`local`), or for the session, where it is our own.
    """
    if local or not is_pooled(connection):
        connection.execute(
            "SELECT set_config(name, '0', %s) FROM pg_settings WHERE name = ANY(%s)", [local, list(_LIMITS)]
        )


@contextmanager
def database(settings: Settings, *, long: bool = False) -> Iterator[psycopg.Connection[Any]]:
    """A connection for one command, for `long` work without the role's time limits; errors are `translated`."""
    with translated(settings), connect(settings) as connection:
        if long:
            without_limits(connection, local=False)
        yield connection


@contextmanager
def translated(settings: Settings) -> Iterator[None]:
    """Trouble becomes StoreUnavailable, what the operator can mend ConfigError."""
    try:
        yield
    except psycopg.errors.QueryCanceled as exc:
        raise ConfigError(
            f"PostgreSQL ended what user {settings.pgvector_user} asked for: {trouble(exc)}: "
            "raise the role's statement_timeout"
        ) from exc
    except psycopg.OperationalError as exc:
        where = f"{settings.pgvector_host}:{settings.pgvector_port}/{settings.pgvector_db}"
        raise StoreUnavailable(f"PostgreSQL at {where}: {trouble(exc)}: check PGVECTOR_*") from exc
    except psycopg.Error as exc:
        raise ConfigError(f"PostgreSQL, as user {settings.pgvector_user}: {trouble(exc)}") from exc


def trouble(exc: psycopg.Error) -> str:
    """One line without document text: the server quotes values only in the detail, which is left out."""
    lines = (exc.diag.message_primary or str(exc)).strip().splitlines()
    failures = [line for line in lines if " failed: " in line] or lines or [type(exc).__name__]
    return failures[-1].strip("- \t")
