"""Semantic search: the rows whose vectors are nearest to that of the words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg.sql import SQL, Placeholder

from embedstream import embedding, store
from embedstream.decode.fields import storable
from embedstream.errors import ConfigError, Rejected
from embedstream.options import json_or_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from typing import TypeAlias

    import numpy as np
    import psycopg
    from psycopg.sql import Composable

    from embedstream.settings import Settings

    Condition: TypeAlias = tuple[dict[str, Any], ...]


class Hit(NamedTuple):
    """A row, and the cosine similarity (-1 to 1) of its text to the words."""

    similarity: float
    id: str
    text: str
    source: str | None
    message_timestamp: datetime
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Wishes:
    """How to look.

    Of each condition in `where` one alternative is contained in the rows' metadata (jsonb's @>), `exact` does without
    the index, and `ef_search` (1 to 1000) is how many candidates pgvector keeps while it walks the index (not set: the
    server's).
    """

    count: int = 10
    where: Sequence[Condition] = ()
    exact: bool = False
    ef_search: int | None = None


def search(settings: Settings, words: str, wishes: Wishes = Wishes()) -> list[Hit]:
    """The nearest rows, best first.

    Raises ConfigError where the service embeds with another model than the table's.
    """
    with store.database(settings) as connection:
        space = store.pinned_space(connection, settings)
        found = embedding.embed_query(settings, space, words)
        if isinstance(found, Rejected):
            raise ConfigError(f"the search words cannot be embedded: {found.reason}")
        return nearest(connection, settings, found.vector, wishes)


def nearest(
    connection: psycopg.Connection[Any], settings: Settings, vector: np.ndarray[Any, Any], wishes: Wishes
) -> list[Hit]:
    """The rows nearest to a vector of shape (dimension,).

    Where the index has fewer rows than were asked for, since few pass the filter, all rows are looked at.
    """
    _, type_ = store.vector_type(len(vector))
    filtered, conditions = _filter(wishes.where)
    statements = store.statements(settings.pgvector_table, "search.sql", vector=type_, where=filtered)
    statement = statements["nearest_where" if wishes.where else "nearest"]
    facts = {"count": wishes.count, "ef_search": wishes.ef_search, "vector": vector.tolist(), **conditions}
    with connection.transaction():
        store.see_pgvector(connection)
        if not wishes.exact:
            connection.execute(statements["tune"], facts)
            hits = [Hit(*row) for row in connection.execute(statement, facts)]
        if wishes.exact or len(hits) < wishes.count:
            connection.execute(statements["exact"])
            hits = [Hit(*row) for row in connection.execute(statement, facts)]
    return sorted(hits, key=lambda hit: -hit.similarity)


def _filter(where: Sequence[Condition]) -> tuple[Composable, dict[str, str]]:
    """The SQL of the conditions, and their parameters."""
    facts: dict[str, str] = {}
    parts: list[Composable] = []
    for condition in where:
        contained: list[Composable] = []
        for alternative in condition:
            name = f"where_{len(facts)}"
            facts[name] = json.dumps(alternative)
            contained.append(SQL("metadata @> {}::jsonb").format(Placeholder(name)))
        parts.append(SQL("({})").format(SQL(" OR ").join(contained)))
    return SQL(" AND ").join(parts), facts


def parse_where(conditions: Iterable[str]) -> list[Condition]:
    """Metadata filters from JSON objects and `key=value` pairs.

    A value that is a number, true, false or null as JSON finds that, and the string of these characters; one that is
    any other JSON finds only that, and one that is no JSON is a string. Raises ConfigError for anything else.
    """
    try:
        return [_condition(condition) for condition in conditions]
    except RecursionError:
        raise ConfigError("--where: what is looked for nests too deep") from None


def _condition(text: str) -> Condition:
    whole = json_or_text(text)
    if isinstance(whole, dict):
        return (storable(whole),)
    key, equals, value = text.partition("=")
    if not equals or not key or text.lstrip().startswith("{"):
        raise ConfigError(f"--where {text!r}: write key=value, or a JSON object")
    parsed = json_or_text(value)
    values = (parsed,) if isinstance(parsed, str | dict | list) else (parsed, value)
    return tuple(storable({key: each}) for each in values)
