"""What a table is pinned to: its space, and the order of its versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from embedstream import canary
from embedstream.errors import ConfigError
from embedstream.space import Space
from embedstream.store.names import Names, columns, statements
from embedstream.store.origin import remedy

if TYPE_CHECKING:
    from typing import Any

    import psycopg

    from embedstream.canary import Vectors
    from embedstream.settings import Settings


class Terms(NamedTuple):
    """What else holds for a table: `id` tells it from others of its name, whatever the address.

    `keeps_progress` is false where an earlier version of ours wrote it last, `has_begun` where no job was submitted for
    it by one that keeps progress; `mapping` is the hash of the latest job's, None for the default shape.
    """

    id: str
    version_by: str
    keeps_progress: bool
    has_begun: bool
    mapping: str | None = None


def read_space(connection: psycopg.Connection[Any], settings: Settings) -> Space | None:
    """The space that the table is pinned to; None where no job was ever submitted for it."""
    if not columns(connection, Names.of(settings.pgvector_table).space):
        return None
    row = connection.execute(statements(settings.pgvector_table)["read_space"]).fetchone()
    return Space(*row) if row else None


class Service(NamedTuple):
    """What a migration left with a table: the `url` of the service of its space, and the models that it had before."""

    url: str | None = None
    former_models: tuple[str, ...] = ()


def read_service(connection: psycopg.Connection[Any], settings: Settings) -> Service:
    """Nothing where the table never went to another space."""
    if "service_url" not in columns(connection, Names.of(settings.pgvector_table).space):
        return Service()
    row = connection.execute(statements(settings.pgvector_table)["read_service"]).fetchone()
    return Service(row[0], tuple(row[1])) if row else Service()


def still_holds(connection: psycopg.Connection[Any], settings: Settings, space: Space) -> bool:
    """Whether the table holds vectors of this space, now and until the transaction ends.

    To be asked before anything else in a transaction: a cut-over waits for its end then, and else came before it.
    """
    connection.execute(statements(settings.pgvector_table)["hold"])
    return read_space(connection, settings) == space


def pinned_space(connection: psycopg.Connection[Any], settings: Settings) -> Space:
    """As `read_space`; raises ConfigError where there is no table."""
    space = read_space(connection, settings)
    if space is None:
        raise no_table(settings)
    return space


def no_table(settings: Settings) -> ConfigError:
    return ConfigError(f"there is no table {settings.pgvector_table} yet: embedstream submit makes it")


def check_space(connection: psycopg.Connection[Any], pinned: Space | None, offered: Space, settings: Settings) -> None:
    if pinned is not None and pinned != offered:
        raise ConfigError(
            f"table {settings.pgvector_table} holds vectors of {pinned}, but the service embeds with {offered}: "
            f"{remedy(connection, settings, pinned, offered)}"
        )


def read_canary(connection: psycopg.Connection[Any], settings: Settings) -> Vectors | None:
    """The vectors of the canary when the table was begun; None where it needs none, or is of an earlier version."""
    if "canary" not in columns(connection, Names.of(settings.pgvector_table).space):
        return None
    row = connection.execute(statements(settings.pgvector_table)["read_canary"]).fetchone()
    return canary.unpack(row[0]) if row and row[0] else None


def keep_canary(connection: psycopg.Connection[Any], settings: Settings, now: Vectors) -> None:
    """Raises ConfigError where the table keeps one already, and the vectors moved since."""
    kept = read_canary(connection, settings)
    if kept is None:
        connection.execute(statements(settings.pgvector_table)["keep_canary"], [canary.pack(now)])
    elif moved := canary.moved(kept, now):
        raise ConfigError(moved)


def read_terms(connection: psycopg.Connection[Any], settings: Settings) -> Terms | None:
    """None where there is no table, or where it is of an earlier version of ours."""
    if "progress_since" not in columns(connection, Names.of(settings.pgvector_table).space):
        return None
    row = connection.execute(statements(settings.pgvector_table, "progress.sql")["terms"]).fetchone()
    return Terms(*row) if row else None


def check_order(terms: Terms | None, settings: Settings) -> None:
    if terms and terms.version_by != settings.version_by:
        raise ConfigError(
            f"table {settings.pgvector_table} orders versions by {terms.version_by}, but VERSION_BY is "
            f"{settings.version_by}: set VERSION_BY={terms.version_by}, or read the topic again in the new order with "
            "embedstream submit --replace --adopt-topic"
        )
