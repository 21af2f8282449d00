"""The indexes of the two tables: what the one has, and the other lacks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg.sql import Identifier

from embedstream.migrate.relations import pairs_of, turned

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from embedstream.migrate.relations import Layout, Pair, Sql
    from embedstream.migrate.state import Role
    from embedstream.settings import Settings

_DEFINITION = re.compile(r"CREATE (UNIQUE )?INDEX .*? ON .*? (USING .*)", re.DOTALL)


class Defined(NamedTuple):
    """An index; `how` is all of its definition but names."""

    name: str
    how: str
    is_valid: bool
    is_primary: bool

    @property
    def is_of_vectors(self) -> bool:
        return "embedding" in self.how


def read(connection: psycopg.Connection[Any], sql: Sql, relation: str) -> list[Defined]:
    rows = connection.execute(sql["indexes"], {"relation": relation})
    return [Defined(name, _how(definition), *facts) for name, definition, *facts in rows]


def _how(definition: str) -> str:
    found = _DEFINITION.fullmatch(definition)
    return "".join(part or "" for part in found.groups()) if found else definition


def lacking(connection: psycopg.Connection[Any], sql: Sql, pair: Pair) -> list[Defined]:
    """Valid indexes that the other one lacks, but for those of vectors: their type is another one."""
    theirs = {each.how for each in read(connection, sql, pair.other.as_string()) if each.is_valid}
    ours = read(connection, sql, pair.own.as_string())
    return [each for each in ours if each.is_valid and not each.is_of_vectors and each.how not in theirs]


def has_pending(connection: psycopg.Connection[Any], sql: Sql, settings: Settings, layout: Layout) -> bool:
    """Of what lacks its vectors: the table itself needs one before it can be the other one, which is looked for it."""
    mirrored, where = pairs_of(layout, settings, "next")[-1].own, f"WHERE ({layout.lacking} IS NULL)"
    found = read(connection, sql, mirrored.as_string())
    return any(each.is_valid and each.how.endswith(where) for each in found)


def make_pending(connection: psycopg.Connection[Any], sql: Sql, settings: Settings, layout: Layout) -> None:
    if has_pending(connection, sql, settings, layout):
        return
    connection.execute(sql["drop_pending"])
    connection.execute(sql["make_pending"])


def make_others(connection: psycopg.Connection[Any], sql: Sql, settings: Settings, layout: Layout, role: Role) -> None:
    """Those that somebody made by hand, under a name of ours until they take theirs at the cut-over."""
    *schema, table = settings.pgvector_table.split(".")
    for pair in pairs_of(layout, settings, role):
        for each in lacking(connection, sql, pair):
            how = each.how.removeprefix("UNIQUE ")
            unique = "UNIQUE " if how != each.how else ""
            name, target = f"{table}_{role}_{each.name}", pair.other.as_string()
            connection.execute(f"DROP INDEX IF EXISTS {Identifier(*schema, name).as_string()}".encode())
            connection.execute(f"CREATE {unique}INDEX CONCURRENTLY {_quoted(name)} ON {target} {how}".encode())


def renamings(
    connection: psycopg.Connection[Any], sql: Sql, settings: Settings, layout: Layout, role: Role
) -> Iterator[str]:
    """Statements that give the indexes of both tables the names that go with their tables' new names.

    First the table's own make room. One that somebody made by hand keeps the name that it had.
    """
    *schema, table = settings.pgvector_table.split(".")
    to = turned(role)
    for pair in pairs_of(layout, settings, role):
        own = {each.name for each in read(connection, sql, pair.own.as_string())}
        names = [(name, f"{table}_{to}_{name.removeprefix(f'{table}_')}") for name in sorted(own)]
        for each in read(connection, sql, pair.other.as_string()):
            rest = each.name.removeprefix(f"{table}_{role}_")
            names.append((each.name, rest if rest in own else f"{table}_{rest}"))
        for name, new in names:
            yield f"ALTER INDEX {Identifier(*schema, name).as_string()} RENAME TO {_quoted(new)}"


def _quoted(name: str) -> str:
    return Identifier(name).as_string()
