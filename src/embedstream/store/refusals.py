"""Which errors of PostgreSQL are a row's own, and which are the world's trouble (appendix A of its manual)."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg

from embedstream.errors import EmbedstreamError, Rejected
from embedstream.store.rights import lacking_rights

if TYPE_CHECKING:
    from embedstream.settings import Settings

# Data exceptions, broken constraints, limits of the program, what PL/pgSQL raises: of a trigger, or of a policy.
_OF_THE_ROW = frozenset({"22", "23", "44", "54", "P0"})
# Of the classes that the SQL standard leaves to implementations and users, those that are PostgreSQL's own.
_OF_THE_SERVER = frozenset({"53", "55", "57", "58", "72", "XX"})
_FREE = frozenset("56789IJKLMNOPQRSTUVWXYZ")
_DENIED = "42501"


class RowRefused(EmbedstreamError):
    """PostgreSQL left out a row, and raised nothing."""


def raise_unless_stored(stored: int, wanted: int) -> None:
    if stored != wanted:
        raise RowRefused("a trigger or a rule of the table leaves the row as it was")


def is_of_the_row(exc: psycopg.Error, connection: psycopg.Connection[Any] | None, settings: Settings) -> bool:
    """Whether another row may fare better.

    A class that PostgreSQL does not have was made up by who wrote a trigger. To be denied is the row's own matter
    (a policy) only where this user has all the rights on the tables.
    """
    if exc.sqlstate is None:
        return False
    if exc.sqlstate == _DENIED:
        return connection is not None and _has_rights(connection, settings)
    kind = exc.sqlstate[:2]
    return kind in _OF_THE_ROW or (kind[0] in _FREE and kind not in _OF_THE_SERVER)


def _has_rights(connection: psycopg.Connection[Any], settings: Settings) -> bool:
    with suppress(psycopg.Error):
        return not lacking_rights(connection, settings)
    return False


def as_rejected(exc: psycopg.Error | RowRefused) -> Rejected:
    """Quotes nothing of the row: PostgreSQL's own message may."""
    if isinstance(exc, RowRefused):
        return Rejected("store", "row_skipped", f"PostgreSQL stored nothing: {exc}")
    return Rejected("store", f"sqlstate_{exc.sqlstate}", f"PostgreSQL refuses the row ({_what(exc)})")


def _what(exc: psycopg.Error) -> str:
    facts = [type(exc).__name__]
    if exc.sqlstate == _DENIED:
        facts.append("a policy of the table")
    if exc.diag.constraint_name:
        facts.append(f"constraint {exc.diag.constraint_name}")
    if found := re.match(r"PL/pgSQL function (\S+?)\(", exc.diag.context or ""):
        facts.append(f"function {found[1]}")
    return ", ".join(facts)
