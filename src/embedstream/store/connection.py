"""Connections to PostgreSQL, and what its errors mean."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

from embedstream.errors import ConfigError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from embedstream.settings import Settings


def connect(settings: Settings) -> psycopg.Connection[Any]:
    """An autocommitting connection in UTC; raises psycopg.OperationalError where the database is away."""
    password = settings.pgvector_password
    return psycopg.connect(
        host=settings.pgvector_host,
        port=settings.pgvector_port,
        dbname=settings.pgvector_db,
        user=settings.pgvector_user,
        password=password.get_secret_value() if password else None,
        sslmode=settings.pgvector_sslmode,
        connect_timeout=5,
        application_name="embedstream",
        client_encoding="UTF8",
        options="-c timezone=UTC -c datestyle=ISO",
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=30_000,
        autocommit=True,
    )


@contextmanager
def database(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """A connection for one command; trouble becomes StoreUnavailable, what the operator can mend ConfigError."""
    try:
        with connect(settings) as connection:
            yield connection
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
