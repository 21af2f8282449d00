"""All indexes of a table at a glance, and what a build of each would take."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from embedstream import store
from embedstream.index.state import KINDS, Catalog

if TYPE_CHECKING:
    from embedstream.index.state import Index, Kind
    from embedstream.settings import Settings

_LEAST_MEMORY_MB = 64


class Needs(NamedTuple):
    """What a build takes of PostgreSQL; with less memory than its graph fills (`fits`) it is several times slower."""

    rows: int
    memory_mb: int
    fits: bool
    workers: int


class Seen(NamedTuple):
    kind: Kind
    found: Index
    needs: Needs


def see(settings: Settings) -> list[Seen]:
    """Each kind; of many rows the number is the planner's estimate. Raises as Catalog."""
    with store.database(settings) as connection:
        return [_seen(Catalog(connection, settings, kind), settings, kind) for kind in KINDS]


def _seen(catalog: Catalog, settings: Settings, kind: Kind) -> Seen:
    (rows,) = catalog.ask("count_until", enough=settings.index_min_rows)
    return Seen(kind, catalog.look(), needs(catalog, settings, rows))


def needs(catalog: Catalog, settings: Settings, rows: int) -> Needs:
    """Parallel workers share the memory, and it is taken at once: no more than the table needs."""
    most = settings.index_memory_mb
    if catalog.bytes_per_row is None:
        return Needs(rows, most, fits=True, workers=settings.index_workers)
    filled = max(rows * catalog.bytes_per_row // 2**20, _LEAST_MEMORY_MB)
    return Needs(rows, min(filled, most), filled <= most, settings.index_workers)
