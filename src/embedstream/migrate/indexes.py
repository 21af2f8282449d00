"""The indexes of the two tables: what the one has, and the other lacks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstream.migrate.relations import names_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from embedstream.migrate.relations import Sql
    from embedstream.migrate.state import Role
    from embedstream.settings import Settings

_DEFINITION = re.compile(r"CREATE (UNIQUE )?INDEX .*? ON .*? (USING .*)", re.DOTALL)
_PENDING = "WHERE (embedding IS NULL)"


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


def lacking(connection: psycopg.Connection[Any], settings: Settings, role: Role, sql: Sql) -> list[Defined]:
    """Valid indexes of the table that the other one lacks, but for those of vectors: their type is another one."""
    names = names_of(settings, role)
    theirs = {each.how for each in read(connection, sql, names["other"]) if each.is_valid}
    ours = read(connection, sql, names["table"])
    return [each for each in ours if each.is_valid and not each.is_of_vectors and each.how not in theirs]


def has_pending(connection: psycopg.Connection[Any], sql: Sql, relation: str) -> bool:
    return any(each.is_valid and each.how.endswith(_PENDING) for each in read(connection, sql, relation))


def make_pending(connection: psycopg.Connection[Any], settings: Settings, sql: Sql) -> None:
    """The table itself needs one before it can be the other one: it is looked for rows without a vector then."""
    table = names_of(settings, "next")["table"]
    if has_pending(connection, sql, table):
        return
    connection.execute(sql["drop_pending"])
    connection.execute(sql["make_pending"])


def make_others(connection: psycopg.Connection[Any], settings: Settings, role: Role, sql: Sql) -> None:
    """Those that somebody made by hand, under a name of ours until they take theirs at the cut-over."""
    other = names_of(settings, role)["other"]
    for each in lacking(connection, settings, role, sql):
        unique, using = (
            ("UNIQUE ", each.how.removeprefix("UNIQUE ")) if each.how.startswith("UNIQUE ") else ("", each.how)
        )
        name = _quoted(f"{settings.pgvector_table.rpartition('.')[2]}_{role}_{each.name}")
        schema = other.rpartition(".")[0]
        connection.execute(f"DROP INDEX IF EXISTS {f'{schema}.' if schema else ''}{name}".encode())
        connection.execute(f"CREATE {unique}INDEX CONCURRENTLY {name} ON {other} {using}".encode())


def renamings(connection: psycopg.Connection[Any], settings: Settings, role: Role, to: Role, sql: Sql) -> Iterator[str]:
    """Statements that give the indexes of both tables the names that go with their tables' new names.

    First the table's own make room. One that somebody made by hand keeps the name that it had.
    """
    table, names = settings.pgvector_table.rpartition(".")[2], names_of(settings, role)
    schema = names["table"].rpartition(".")[0]
    path = f"{schema}." if schema else ""
    own = {each.name for each in read(connection, sql, names["table"])}
    for name in sorted(own):
        rest = name.removeprefix(f"{table}_")
        yield f"ALTER INDEX {path}{_quoted(name)} RENAME TO {_quoted(f'{table}_{to}_{rest}')}"
    for each in read(connection, sql, names["other"]):
        rest = each.name.removeprefix(f"{table}_{role}_")
        new = rest if rest in own else f"{table}_{rest}"
        yield f"ALTER INDEX {path}{_quoted(each.name)} RENAME TO {_quoted(new)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
