"""PostgreSQL: reachable, with pgvector, with the rights that are needed, and with a table of ours or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq

from embedstream import store
from embedstream.doctor.check import Check, Verdict, fail, ok, skipped, warn
from embedstream.index.state import KINDS, Catalog, as_line, command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedstream.doctor.world import World
    from embedstream.settings import Settings

_OLDEST_PGVECTOR = (0, 5)
# Vacuum and parallel builds of those before could damage an HNSW graph, which searches do not notice.
_SOUND_PGVECTOR = (0, 8, 4)


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
    found = _rows(
        world,
        "SELECT extversion, nspname, has_schema_privilege(n.oid, 'USAGE')"
        " FROM pg_extension JOIN pg_namespace AS n ON n.oid = extnamespace WHERE extname = 'vector'",
    )
    if not found:
        return _installable(world)
    version, schema, is_usable = found[0]
    if _numbers(version) < _OLDEST_PGVECTOR:
        return fail(f"pgvector {version} has no HNSW index", "install 0.5 or newer, and ALTER EXTENSION vector UPDATE")
    if not is_usable:
        user = world.settings.pgvector_user
        return fail(f"user {user} may not use schema {schema} of pgvector", f"GRANT USAGE ON SCHEMA {schema} TO {user}")
    if _numbers(version) < _SOUND_PGVECTOR:
        return warn(
            f"pgvector {version} may damage an HNSW index while rows are removed or it is built in parallel, so that "
            "searches miss rows",
            f"install {_dotted(_SOUND_PGVECTOR)} or newer, ALTER EXTENSION vector UPDATE, and REINDEX the vector index",
        )
    return ok(f"pgvector {version} in schema {schema}")


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
    store.check_order(store.read_terms(world.connection, world.settings), world.settings)
    missing = store.lacks(world.connection, table, is_chunked=world.settings.is_chunked)
    if not missing:
        return ok(f"{table} is one of embedstream's, its versions go by {world.settings.version_by}")
    if len(missing) == len(store.Names.of(table)):
        return ok(f"{table} will be created by submit")
    fact = f"of table {table} these are missing or of an earlier version: {', '.join(missing)}"
    return warn(fact, "embedstream submit --replace makes them")


def _rights(world: World) -> Verdict:
    user, table = world.settings.pgvector_user, world.settings.pgvector_table
    lacking = store.lacking_rights(world.connection, world.settings)
    if missing := store.lacks(world.connection, table, is_chunked=world.settings.is_chunked):
        lacking += [] if _may_create(world) else ["CREATE on the schema"]
        lacking += [f"ownership of {name}" for name in _not_owned(world, missing)]
    if lacking:
        return fail(
            f"user {user} lacks {', '.join(lacking)}",
            "GRANT it, or submit once with PGVECTOR_USER set to the owner of the schema and of the table",
        )
    return ok(f"user {user} may do all that table {table} needs")


def _not_owned(world: World, relations: Sequence[str]) -> list[str]:
    """Those of the relations that are there, and belong to a role that this user is no member of."""
    query = (
        "SELECT c.oid::regclass::text FROM pg_class AS c JOIN unnest(%s::text[]) AS r (name)"
        " ON c.oid = to_regclass(name) WHERE NOT pg_has_role(relowner, 'USAGE')"
    )
    return [name for (name,) in _rows(world, query, [list(relations)])]


def _pooler(world: World) -> Verdict:
    if store.is_pooled(world.connection):
        return ok(
            "a pooler stands between; job, status and search need no session, "
            "audit and index have to be given the server's own PGVECTOR_HOST and _PORT"
        )
    return ok("connected to the server itself")


def _triggers(world: World) -> Verdict:
    """What refuses a row, or leaves it out, makes dead letters."""
    names = store.Names.of(world.settings.pgvector_table)
    query = (
        "SELECT c.relname || ' has ' || CASE WHEN c.relrowsecurity AND NOT (p.rolsuper OR p.rolbypassrls)"
        " THEN 'row level security' ELSE 'trigger ' || t.tgname END"
        " FROM pg_class AS c JOIN pg_roles AS p ON p.rolname = current_user"
        " LEFT JOIN pg_trigger AS t ON t.tgrelid = c.oid AND NOT t.tgisinternal"
        " WHERE c.oid = ANY (%s::regclass[])"
        " AND (t.tgname IS NOT NULL OR c.relrowsecurity AND NOT (p.rolsuper OR p.rolbypassrls))"
    )
    ours = [name.as_string() for name in (names.table, names.ledger, names.progress)]
    there = [name for name in ours if _row(world, "SELECT to_regclass(%s) IS NOT NULL", [name]) == (True,)]
    if found := [fact for (fact,) in _rows(world, query, [there])]:
        return warn(
            f"{', '.join(found)}: a row that it refuses becomes a dead letter, of stage store",
            "see that it refuses none that are meant to be found: embedstream dead-letters list",
        )
    return ok("no trigger and no policy stands in the way of a row")


def _progress(world: World) -> Verdict:
    """Whether the table has all that was ever committed to it."""
    settings, connection = world.settings, world.connection
    if store.lacks(connection, settings.pgvector_table, is_chunked=settings.is_chunked):
        return skipped("there is no table of this version yet")
    if forgotten := store.read_forgotten(connection, settings):
        return fail("; ".join(forgotten))
    counts = store.read_counts(connection, settings)
    if not counts.are_sound:
        return fail(
            store.losses(counts),
            "embedstream submit --replace reads the topic again (without embedding what is there); "
            "what the topic has no more is named by embedstream audit",
        )
    if not world.pinned or not (terms := store.read_terms(connection, settings)) or not terms.keeps_progress:
        return warn("the table keeps no progress yet", "embedstream submit --replace")
    return ok(f"{counts.ids:,} ids came in, and all are there")


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
            store.space_remedy(world.connection, world.settings, world.pinned, world.space),
        )
    return ok("the table holds vectors of the service's model and revision")


def _index(world: World) -> Verdict:
    if world.pinned is None:
        return ok("no table yet, so no index")
    catalogs = {kind: Catalog(world.connection, world.settings, kind) for kind in KINDS}
    found = {kind: catalog.look() for kind, catalog in catalogs.items()}
    for kind, index in found.items():
        if index.state == "invalid":
            return warn(
                f"{index.name} is invalid: no search uses it, and every write pays for it", command("build", kind)
            )
    vectors, wanted = found["vector"], catalogs["vector"].type
    if vectors.state == "valid" and vectors.type != wanted:
        return warn(
            f"{vectors.name} holds {vectors.type}, INDEX_TYPE asks for {wanted}: searches use it all the same",
            f"{command('build', 'vector')}, which drops the other one when it is done",
        )
    return ok(as_line(vectors))


def _rows(world: World, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    return world.connection.execute(query.encode(), parameters).fetchall()


def _row(world: World, query: str, parameters: Sequence[object] = ()) -> tuple[Any, ...]:
    return _rows(world, query, parameters)[0]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _dotted(numbers: Sequence[int]) -> str:
    return ".".join(map(str, numbers))


_REACHABLE = ("database.reachable",)
CHECKS = (
    Check("database.reachable", _reachable),
    Check("database.encoding", _encoding, _REACHABLE),
    Check("database.writable", _writable, _REACHABLE),
    Check("database.extension", _extension, _REACHABLE),
    Check("database.table", _table, _REACHABLE),
    Check("database.rights", _rights, _REACHABLE),
    Check("database.pooler", _pooler, _REACHABLE),
    Check("database.triggers", _triggers, _REACHABLE),
    Check("database.progress", _progress, ("database.table", "database.rights")),
    Check("database.index", _index, ("database.table",)),
    Check("database.space", _space, ("service.ready", "database.table")),
)
