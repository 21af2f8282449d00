"""What a migration's one row says, and which step may follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from embedstream import store
from embedstream.errors import ConfigError
from embedstream.space import Space

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import psycopg

    from embedstream.migrate.relations import Sql
    from embedstream.settings import Settings

State: TypeAlias = Literal["copying", "cut over"]
Role: TypeAlias = Literal["next", "previous"]
Step: TypeAlias = Literal["pause", "resume", "cut-over", "roll-back", "finish", "abort"]

ROLES: dict[State, Role] = {"copying": "next", "cut over": "previous"}
"""What the other table is to the one of the name."""

# In which state a step is one, and what is to be said in the other.
_NEEDS: dict[Step, tuple[State, str]] = {
    "cut-over": (
        "copying",
        "it has been cut over already: migrate roll-back goes back, migrate finish ends the migration",
    ),
    "roll-back": ("cut over", "it has not been cut over, there is nothing to go back to: migrate abort gives it up"),
    "finish": ("cut over", "it has not been cut over yet: migrate cut-over comes before, or migrate abort gives it up"),
    "abort": ("copying", "it has been cut over: migrate roll-back comes before, or migrate finish ends the migration"),
}


class Migration(NamedTuple):
    """`share` is the most of the time that who works on it may take, 0 to 1; `copied_to` the id up to which the rows
    are in the other table; `rate` rows a second of who worked on it last, `idle` seconds ago. `refused` says by id why
    the service of the other space takes no text.
    """

    state: State
    paused: bool
    share: float
    started_at: datetime
    switched_at: datetime | None = None
    copied_to: str = ""
    is_copied: bool = False
    rate: float | None = None
    idle: float | None = None
    refused: Mapping[str, str] = {}

    @property
    def role(self) -> Role:
        return ROLES[self.state]


class Beside(NamedTuple):
    """The space of the other table, the address of its service, and of a table of chunks how its texts are cut."""

    space: Space
    service_url: str
    splitting: str | None = None


def read(connection: psycopg.Connection[Any], settings: Settings) -> Migration | None:
    """None where the table is on no way."""
    relation = store.migration_of(settings.pgvector_table)
    if not store.columns(connection, relation):
        return None
    statement = store.statements(settings.pgvector_table, "migration.sql", migration=relation)["read"]
    row = connection.execute(statement).fetchone()
    return Migration(*row) if row else None


def needed(connection: psycopg.Connection[Any], settings: Settings, step: Step) -> Migration:
    """The migration, where the step may be taken; raises ConfigError."""
    return check(read(connection, settings), settings.pgvector_table, step)


def check(migration: Migration | None, table: str, step: Step) -> Migration:
    if migration is None:
        raise ConfigError(f"table {table} is not being migrated: embedstream migrate start --service URL begins")
    state, otherwise = _NEEDS.get(step, (migration.state, ""))
    if migration.state != state:
        raise ConfigError(f"migrate {step}: table {table} cannot: {otherwise}")
    return migration


def read_beside(connection: psycopg.Connection[Any], sql: Sql) -> Beside:
    *space, service_url, splitting = connection.execute(sql["read_other_space"]).fetchall()[0]
    return Beside(Space(*space), service_url, splitting)
