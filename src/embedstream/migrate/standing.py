"""How far a migration is, in facts and in lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from embedstream import store
from embedstream.display import duration, printable
from embedstream.index.state import KINDS, NAMES, Catalog
from embedstream.migrate.relations import beside, layout_of, ready
from embedstream.migrate.state import read

if TYPE_CHECKING:
    from datetime import datetime

    import psycopg

    from embedstream.migrate.state import State
    from embedstream.settings import Settings

# Who works on it says so at least that often, unless the service lets it wait.
_QUIET_SECONDS = 60.0


@dataclass(frozen=True)
class Standing:
    """Of the other table: `rows` are those of the table itself, `copied` those that stand in the other, `pending` those
    of them without a vector; of a table of chunks they are documents (`unit`). `eta_seconds` is None where nobody works
    on it; `lacks` are its missing indexes.
    """

    table: str
    state: State
    space: str
    other_space: str
    service_url: str
    paused: bool
    share: float
    started_at: datetime
    switched_at: datetime | None
    rows: int
    copied: int
    pending: int
    rate: float | None
    is_worked_on: bool
    eta_seconds: float | None
    lacks: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    unit: str = "rows"

    @property
    def left(self) -> int:
        return max(0, self.rows - self.copied) + self.pending

    @property
    def is_ready(self) -> bool:
        """Whether the other table could take the name."""
        return not self.left and not self.lacks


def read_standing(connection: psycopg.Connection[Any], settings: Settings) -> Standing | None:
    """None where the table is on no way to another space."""
    migration = read(connection, settings)
    if migration is None:
        return None
    sql, found = ready(connection, settings, migration.role)
    rows, copied, pending = connection.execute(sql["counts"]).fetchall()[0]
    left = max(0, rows - copied) + pending
    is_worked_on = migration.idle is not None and migration.idle < _QUIET_SECONDS and not migration.paused and left > 0
    eta = left / migration.rate if is_worked_on and migration.rate else None
    other = beside(settings, migration.role)
    lacks = [
        NAMES[kind] for kind in KINDS
        if Catalog(connection, settings, kind).look().state == "valid"
        and Catalog(connection, other, kind).look().state != "valid"
    ]  # fmt: skip
    return Standing(
        settings.pgvector_table, migration.state, str(store.pinned_space(connection, settings)), str(found.space),
        found.service_url, migration.paused, round(migration.share, 3), migration.started_at, migration.switched_at,
        rows, copied, pending, migration.rate if is_worked_on else None, is_worked_on, eta if left else 0.0, lacks,
        dict(migration.refused), layout_of(connection, settings).unit,
    )  # fmt: skip


def as_line(standing: Standing) -> str:
    """One line for the status and the console."""
    if standing.state == "cut over":
        behind = f", which lacks {standing.left:,} {standing.unit}" if standing.left else ""
        return f"cut over to {standing.space}; the table before is kept in step{behind}"
    done = f"{standing.rows - standing.left:,} of {standing.rows:,} {standing.unit}"
    return f"to {standing.other_space}: {done}, {_pace(standing)}"


def _pace(standing: Standing) -> str:
    if standing.is_ready:
        return "ready for embedstream migrate cut-over"
    if standing.paused:
        return "paused: embedstream migrate resume"
    if standing.eta_seconds:
        return f"{standing.rate or 0:,.0f} {standing.unit}/s, done in {duration(standing.eta_seconds)}"
    if standing.lacks and not standing.left:
        return f"the {' and the '.join(standing.lacks)} to be built"
    return "nobody works on it: embedstream migrate resume"


def as_lines(standing: Standing) -> str:
    kept = "it is searched" if standing.state == "copying" else "it is searched since " + _moment(standing.switched_at)
    lines = [
        ("table", f"{standing.table}: {standing.space}, {kept}"),
        ("beside it", f"{standing.other_space}, by the service at {standing.service_url}"),
        ("begun", f"{_moment(standing.started_at)}, for at most {standing.share:.0%} of the time"),
        ("migration", as_line(standing)),
        *(("refused", f"{printable(id)}: {printable(why)}") for id, why in standing.refused.items()),
    ]
    return "\n".join(f"{name:<9}  {value}" for name, value in lines)


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else "not known"
