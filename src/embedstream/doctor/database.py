"""PostgreSQL: reachable, with pgvector, with the rights that are needed, and with a table of ours or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq

from embedstream import store
from embedstream.doctor.check import Check, Verdict, fail, ok, warn
from embedstream.index.state import Catalog, as_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedstream.doctor.world import World
    from embedstream.settings import Settings

_OLDEST_PGVECTOR = (0, 5)


def _reachable(world: World) -> Verdict:
    settings = world.settings
    where = f"{settings.pgvector_host}:{settings.pgvector_port}"
    try:
        version = world.connection.info.server_version
    except psycopg.OperationalError as exc:
        return _why_not(settings, where, store.trouble(exc))
    return ok(f"PostgreSQL {version // 10000}.{version % 10000} at {where}, database {settings.pgvector_db}")


def _why_not(settings: Settings, where: str, reason: str) -> Verdict:
    conninfo = psycopg.conninfo.make_conninfo(host=settings.pgvector_host, port=settings.pgvector_port)
    match pq.PGconn.ping(conninfo.encode()):
        case pq.Ping.REJECT:
            return fail(f"PostgreSQL at {where} takes no connections now: {reason}", "wait until it has started")
        case pq.Ping.NO_RESPONSE | pq.Ping.NO_ATTEMPT:
            return fail(f"no PostgreSQL answers at {where}: {reason}", "start it, or set PGVECTOR_HOST and _PORT")
    if f'database "{settings.pgvector_db}" does not exist' in reason:
        return fail(
            f"PostgreSQL at {where} has no database {settings.pgvector_db}", "create it, or set PGVECTOR_DB to another"
        )
    return fail(
        f"PostgreSQL at {where} does not let user {settings.pgvector_user} in: {reason}",
        "check PGVECTOR_USER, PGVECTOR_PASSWORD, PGVECTOR_SSLMODE and the server's pg_hba.conf",
    )


def _encoding(world: World) -> Verdict:
    store.check_encoding(world.connection, world.settings)
    return ok("UTF8")


def _writable(world: World) -> Verdict:
    (read_only,) = _row(world, "SELECT current_setting('transaction_read_only')::boolean")
    if read_only:
        return fail("the database is read-only", "set PGVECTOR_HOST to the primary, or default_transaction_read_only")
    return ok("takes writes")


def _extension(world: World) -> Verdict:
    found = _rows(world, "SELECT extversion, to_regtype('vector') IS NOT NULL FROM pg_extension WHERE extname='vector'")
    if not found:
        return _installable(world)
    version, visible = found[0]
    if _numbers(version) < _OLDEST_PGVECTOR:
        return fail(f"pgvector {version} has no HNSW index", "install 0.5 or newer, and ALTER EXTENSION vector UPDATE")
    if not visible:
        return fail(
            f"pgvector's schema is not on the search path of user {world.settings.pgvector_user}",
            "ALTER EXTENSION vector SET SCHEMA public, or ALTER ROLE ... SET search_path",
        )
    return ok(f"pgvector {version}")


def _installable(world: World) -> Verdict:
    offered = _rows(world, "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'")
    if not offered:
        return fail("the server has no pgvector", "install pgvector 0.5 or newer on its machine")
    (version,) = offered[0]
    if _numbers(version) < _OLDEST_PGVECTOR:
        return fail(f"the server's pgvector {version} has no HNSW index", "install pgvector 0.5 or newer")
    (may,) = _row(
        world,
        "SELECT rolsuper OR has_database_privilege(current_database(), 'CREATE') AND bool_or(e.trusted)"
        " FROM pg_roles, pg_available_extension_versions AS e"
        " WHERE rolname = current_user AND e.name = 'vector' GROUP BY rolsuper",
    )
    if not may:
        return fail(
            f"user {world.settings.pgvector_user} may not install pgvector",
            f"as a superuser: CREATE EXTENSION vector in database {world.settings.pgvector_db}",
        )
    return ok(f"pgvector {version} will be installed by submit")


def _table(world: World) -> Verdict:
    table = world.settings.pgvector_table
    store.check_columns(world.connection, table)
    names = store.Names.of(table)
    missing = [
        name.as_string()
        for name in (names.table, names.ledger, names.space, names.vectors)
        if not store.columns(world.connection, name)
    ]
    if len(missing) == len(names):
        return ok(f"{table} will be created by submit")
    if missing:
        return warn(f"of table {table} there is no {', '.join(missing)}", "embedstream submit creates it")
    return ok(f"{table} is one of embedstream's")


def _rights(world: World) -> Verdict:
    lacking = [*_lacking_on_relations(world), *_lacking_temp(world)]
    user, table = world.settings.pgvector_user, world.settings.pgvector_table
    may_create = _may_create(world)
    if world.pinned is None and not may_create:
        lacking.append("CREATE on the schema")
    if lacking:
        return fail(f"user {user} lacks {', '.join(lacking)}", "GRANT it, or set PGVECTOR_USER to the table's owner")
    if not may_create:
        return warn(
            f"user {user} may run the job, but not submit it", "GRANT CREATE on the schema to submit as this user"
        )
    return ok(f"user {user} may do all that table {table} needs")


def _lacking_on_relations(world: World) -> list[str]:
    names = store.Names.of(world.settings.pgvector_table)
    wanted = [(names.table, p) for p in ("SELECT", "INSERT", "UPDATE", "DELETE")]
    wanted += [(names.ledger, p) for p in ("SELECT", "INSERT", "UPDATE")] + [(names.space, "SELECT")]
    query = "SELECT has_table_privilege(to_regclass(%s), %s)"
    return [
        f"{privilege} on {name.as_string()}"
        for name, privilege in wanted
        if _row(world, query, [name.as_string(), privilege]) == (False,)
    ]


def _lacking_temp(world: World) -> list[str]:
    if _row(world, "SELECT has_database_privilege(current_database(), 'TEMP')") == (True,):
        return []
    return [f"TEMP on database {world.settings.pgvector_db}"]


def _may_create(world: World) -> bool:
    """In the table's own schema, or else in the first one of the search path."""
    schema, _, _ = world.settings.pgvector_table.rpartition(".")
    query = "SELECT coalesce(has_schema_privilege(oid, 'CREATE'), false) FROM pg_namespace"
    query += " WHERE nspname = coalesce(nullif(%s, ''), current_schema())"
    return _rows(world, query, [schema]) == [(True,)]


def _space(world: World) -> Verdict:
    if world.pinned is None:
        return ok(f"no table yet: submit will pin it to {world.space}")
    if world.pinned != world.space:
        return fail(
            f"the table holds vectors of {world.pinned}, but the service embeds with {world.space}",
            "start the service with the table's model, or set PGVECTOR_TABLE to another table",
        )
    return ok("the table holds vectors of the service's model and revision")


def _index(world: World) -> Verdict:
    if world.pinned is None:
        return ok("no table yet, so no index")
    index = Catalog(world.connection, world.settings).look()
    if index.state == "invalid":
        return warn(
            f"{index.name} is invalid: no search uses it, and every write pays for it", "embedstream index build"
        )
    return ok(as_line(index))


def _rows(world: World, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    return world.connection.execute(query.encode(), parameters).fetchall()


def _row(world: World, query: str, parameters: Sequence[object] = ()) -> tuple[Any, ...]:
    return _rows(world, query, parameters)[0]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


_REACHABLE = ("database.reachable",)
CHECKS = (
    Check("database.reachable", _reachable),
    Check("database.encoding", _encoding, _REACHABLE),
    Check("database.writable", _writable, _REACHABLE),
    Check("database.extension", _extension, _REACHABLE),
    Check("database.table", _table, _REACHABLE),
    Check("database.rights", _rights, _REACHABLE),
    Check("database.index", _index, ("database.table",)),
    Check("database.space", _space, ("service.ready", "database.table")),
)
