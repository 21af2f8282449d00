"""Begins a migration: looks at what could be in its way, and makes the second table beside the one that is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstream import canary, embedding, store
from embedstream.errors import ConfigError, EmbedstreamError, RetryLater
from embedstream.migrate.locks import shortly
from embedstream.migrate.relations import beside, check_name, filled, layout_of, named, pairs_of, ready
from embedstream.migrate.state import Beside, needed, read
from embedstream.splitting import splitter_of

if TYPE_CHECKING:
    import psycopg

    from embedstream.migrate.relations import Pair, Sql
    from embedstream.migrate.state import Migration
    from embedstream.settings import Settings
    from embedstream.space import Space


def begin(settings: Settings, url: str, share: float) -> None:
    """Have every change of the table go to a second one as well, from now on.

    Where that is so already, only `share` is noted, and the service's address. Raises ConfigError where the service is
    away or is of the table's own space, or has no tokenizer that cuts texts as the pipeline wants them, where another
    migration is under way, and where something is bound to the table that could not go with its name.
    """
    offered = _offered(settings, url)
    _check_dimension(settings, offered.space)
    with store.database(settings, long=True) as connection:
        own = _own_service(connection, settings)

        def make() -> None:
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('embedstream schema'))")
            pinned = store.pinned_space(connection, settings)
            if migration := read(connection, settings):
                _go_on(connection, settings, migration, offered)
            else:
                _check_new(connection, settings, pinned, offered.space)
                _make(connection, settings, offered)
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


def _offered(settings: Settings, url: str) -> Beside:
    own = settings.model_copy(update={"embedding_service_url": url})
    try:
        space = embedding.read_space(own)
    except RetryLater as exc:
        raise ConfigError(f"--service: {exc}") from exc
    return Beside(space, url, _splitting(own, space, "--service"))


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


def _splitting(settings: Settings, space: Space, what: str, also: str | None = None) -> str | None:
    """How the service of the space has the pipeline's texts cut; None where a text is one row."""
    try:
        splitter = splitter_of(settings, space, also)
    except (ConfigError, RetryLater) as exc:
        raise ConfigError(f"{what}: {exc}") from exc
    return splitter.identity if splitter else None


def _go_on(connection: psycopg.Connection[Any], settings: Settings, migration: Migration, offered: Beside) -> None:
    sql, found = ready(connection, settings, migration.role)
    if found.space != offered.space:
        raise ConfigError(
            f"table {settings.pgvector_table} is being migrated already, and the other space is {found.space}, not "
            f"{offered.space}: migrate finish or migrate abort ends that one first"
        )
    store.check_splitting(found.splitting, offered.splitting, settings)
    connection.execute(sql["note_other_service"], [offered.service_url])
    _tell(connection, settings, "set_paused", False)


def _check_new(connection: psycopg.Connection[Any], settings: Settings, pinned: Space, space: Space) -> None:
    table = settings.pgvector_table
    if space == pinned:
        raise ConfigError(f"the service embeds with {space}, as table {table} does already: give that of another model")
    _check_splitting(connection, settings, pinned)
    store.check_newest(connection, settings)
    check_name(table, layout_of(connection, settings))
    for pair in pairs_of(layout_of(connection, settings), settings, "next"):
        _check_relation(connection, settings, space, pair)


def _check_splitting(connection: psycopg.Connection[Any], settings: Settings, pinned: Space) -> None:
    """Whoever cuts texts from here on has to do it as the job does, which was submitted with the same."""
    also = store.read_service(connection, settings).url
    offered = _splitting(settings, pinned, f"the service of table {settings.pgvector_table} as it is", also)
    store.check_splitting(store.read_splitting(connection, settings), offered, settings)


def _check_relation(connection: psycopg.Connection[Any], settings: Settings, space: Space, pair: Pair) -> None:
    table, relation = settings.pgvector_table, pair.own.as_string()
    name = relation.replace('"', "")
    sql = filled(connection, settings, "next", space)
    vectors = store.Names.of(table).vectors.as_string()
    found = [what for (what,) in connection.execute(sql["obstacles"], {"table": relation, "vectors": vectors})]
    if found:
        raise ConfigError(
            f"table {name} has {', '.join(found)}, which would stay with the old vectors when another table takes "
            "its name: remove what is named, and make it again after migrate cut-over"
        )
    owner, is_ours, may_create, schema, is_first = _owned(connection, sql, relation)
    if "." not in table and not is_first:
        raise ConfigError(
            f"table {table} is in schema {schema}, but what is made beside it would be in another one: set "
            f"PGVECTOR_TABLE={schema}.{table} for this command"
        )
    if not (is_ours and may_create):
        raise ConfigError(
            f"user {settings.pgvector_user} may not migrate table {name}: its owner {owner} may, with CREATE on "
            f"schema {schema}; set PGVECTOR_USER to that for this command"
        )


def _owned(connection: psycopg.Connection[Any], sql: Sql, relation: str) -> tuple[Any, ...]:
    row: tuple[Any, ...] = connection.execute(sql["owned"], {"relation": relation}).fetchall()[0]
    return row


def _make(connection: psycopg.Connection[Any], settings: Settings, offered: Beside) -> None:
    space, url, splitting = offered
    sql = filled(connection, settings, "next", space)
    connection.execute(sql["make"])
    connection.execute(sql["open"], [0.5])
    connection.execute(sql["pin_other"], [*space, url, _canary(settings, url)])
    if splitting:
        store.pin_splitting(connection, beside(settings, "next"), splitting)
    own = store.Names.of(settings.pgvector_table).space
    pairs = pairs_of(layout_of(connection, settings), settings, "next")
    for source, target in (
        *pairs, (own, named(settings, "next_space")), (own, store.migration_of(settings.pgvector_table)),
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
