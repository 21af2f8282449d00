"""Begins a migration: looks at what could be in its way, and makes the second table beside the one that is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstream import canary, embedding, store
from embedstream.errors import ConfigError, EmbedstreamError, RetryLater
from embedstream.migrate.locks import shortly
from embedstream.migrate.relations import check_name, filled, named, names_of, ready
from embedstream.migrate.state import needed, read

if TYPE_CHECKING:
    import psycopg

    from embedstream.migrate.relations import Sql
    from embedstream.migrate.state import Migration
    from embedstream.settings import Settings
    from embedstream.space import Space


def begin(settings: Settings, url: str, share: float) -> None:
    """Have every change of the table go to a second one as well, from now on.

    Where that is so already, only `share` is noted, and the service's address. Raises ConfigError where the service is
    away or is of the table's own space, where another migration is under way, and where something is bound to the table
    that could not go with its name.
    """
    space = _offered(settings, url)
    _check_dimension(settings, space)
    with store.database(settings, long=True) as connection:
        own = _own_service(connection, settings)

        def make() -> None:
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('embedstream schema'))")
            pinned = store.pinned_space(connection, settings)
            if migration := read(connection, settings):
                _go_on(connection, settings, migration, space, url)
            else:
                _check_new(connection, settings, pinned, space)
                _make(connection, settings, space, url)
                connection.execute(filled(connection, settings, "next")["note_service"], [own])
            _tell(connection, settings, "set_share", share)

        shortly(connection, settings, make, "migrate start")


def unpause(settings: Settings, share: float) -> None:
    """Have those who work on a migration work again, at most for this share of the time."""
    with store.database(settings) as connection:
        needed(connection, settings, "resume")
        _tell(connection, settings, "set_paused", False)
        _tell(connection, settings, "set_share", share)


def pause(settings: Settings) -> None:
    """Have those who embed for the other table stop; whoever works on it alone ends at the next batch."""
    with store.database(settings) as connection:
        needed(connection, settings, "pause")
        _tell(connection, settings, "set_paused", True)


def _tell(connection: psycopg.Connection[Any], settings: Settings, statement: str, value: object) -> None:
    table = settings.pgvector_table
    sql = store.statements(table, "migration.sql", migration=store.migration_of(table))
    connection.execute(sql[statement], [value])


def _offered(settings: Settings, url: str) -> Space:
    try:
        return embedding.read_space(settings.model_copy(update={"embedding_service_url": url}))
    except RetryLater as exc:
        raise ConfigError(f"--service: {exc}") from exc


def _own_service(connection: psycopg.Connection[Any], settings: Settings) -> str:
    """Where the service of the table's own model is: an earlier migration may have left another than the one set."""
    noted = store.read_service(connection, settings).url
    if noted is None:
        return settings.embedding_service_url
    try:
        offered = embedding.read_space(settings)
    except EmbedstreamError:
        return noted
    return settings.embedding_service_url if offered == store.read_space(connection, settings) else noted


def _check_dimension(settings: Settings, space: Space) -> None:
    store.vector_type(space.dimension)
    if settings.pgvector_dimension not in (None, space.dimension):
        raise ConfigError(
            f"PGVECTOR_DIMENSION={settings.pgvector_dimension}, but the new service embeds with {space}: unset it, "
            "here and where the job is submitted"
        )


def _go_on(
    connection: psycopg.Connection[Any], settings: Settings, migration: Migration, space: Space, url: str
) -> None:
    sql, found = ready(connection, settings, migration.role)
    if found.space != space:
        raise ConfigError(
            f"table {settings.pgvector_table} is being migrated already, and the other space is {found.space}, not "
            f"{space}: migrate finish or migrate abort ends that one first"
        )
    connection.execute(sql["note_other_service"], [url])
    _tell(connection, settings, "set_paused", False)


def _check_new(connection: psycopg.Connection[Any], settings: Settings, pinned: Space, space: Space) -> None:
    table = settings.pgvector_table
    if space == pinned:
        raise ConfigError(f"the service embeds with {space}, as table {table} does already: give that of another model")
    if settings.is_chunked or store.read_splitting(connection, settings) is not None:
        raise ConfigError(
            f"table {table} holds chunks of texts, which a migration cannot cut again for another model yet: set the "
            "pipeline's table to another one, and submit with the new model"
        )
    store.check_newest(connection, settings)
    check_name(table)
    facts = names_of(settings, "next")
    sql = filled(connection, settings, "next", space)
    found = [what for (what,) in connection.execute(sql["obstacles"], facts)]
    if found:
        raise ConfigError(
            f"table {table} has {', '.join(found)}, which would stay with the old vectors when another table takes its "
            "name: remove what is named, and make it again after migrate cut-over"
        )
    owner, is_ours, may_create, schema, is_first = _owned(connection, sql, facts["table"])
    if "." not in table and not is_first:
        raise ConfigError(
            f"table {table} is in schema {schema}, but what is made beside it would be in another one: set "
            f"PGVECTOR_TABLE={schema}.{table} for this command"
        )
    if not (is_ours and may_create):
        raise ConfigError(
            f"user {settings.pgvector_user} may not migrate table {table}: its owner {owner} may, with CREATE on "
            f"schema {schema}; set PGVECTOR_USER to that for this command"
        )


def _owned(connection: psycopg.Connection[Any], sql: Sql, relation: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] = connection.execute(sql["owned"], {"relation": relation}).fetchall()[0]
    return row


def _make(connection: psycopg.Connection[Any], settings: Settings, space: Space, url: str) -> None:
    sql = filled(connection, settings, "next", space)
    connection.execute(sql["make"])
    connection.execute(sql["open"], [0.5])
    connection.execute(sql["pin_other"], [*space, url, _canary(settings, url)])
    names = store.Names.of(settings.pgvector_table)
    other, other_space = named(settings, "next"), named(settings, "next_space")
    for source, target in (
        (names.table, other), (names.space, other_space), (names.space, store.migration_of(settings.pgvector_table)),
    ):  # fmt: skip
        like(connection, sql, source.as_string(), target.as_string())
    connection.execute(sql["mirror"])
    connection.execute(sql["watch_writers"])


def _canary(settings: Settings, url: str) -> bytes | None:
    """As the table's own; see `store.keep_canary`."""
    found = embedding.read_canary(settings.model_copy(update={"embedding_service_url": url}))
    return None if found is None else canary.pack(found)


def like(connection: psycopg.Connection[Any], sql: Sql, source: str, target: str) -> None:
    """Give a relation the owner, the rights and the storage options of another one."""
    owner, *_ = _owned(connection, sql, source)
    (options,) = connection.execute(sql["options"], {"relation": source}).fetchall()[0]
    statements = [f"ALTER TABLE {target} OWNER TO {owner}", *grants(connection, sql, source, target)]
    if options:
        statements.append(f"ALTER TABLE {target} SET ({options})")
    for statement in statements:
        connection.execute(statement.encode())  # all names in it are PostgreSQL's own, with their quotes


def grants(connection: psycopg.Connection[Any], sql: Sql, source: str, target: str) -> list[str]:
    """Statements that give `target` the rights of `source`."""
    return [line for (line,) in connection.execute(sql["grants"], {"relation": source, "to": target})]
