"""Semantic search: the rows whose vectors are nearest to that of the words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstream import embedding, store
from embedstream.errors import ConfigError, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import numpy as np
    import psycopg

    from embedstream.settings import Settings


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
    """How to look: `where` is contained in the rows' metadata (jsonb's @>), `exact` does without the index, and
    `ef_search` (1 to 1000) is how many candidates pgvector keeps while it walks the index (not set: the server's).
    """

    count: int = 10
    where: dict[str, Any] | None = None
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
    statements = store.statements(settings.pgvector_table, "search.sql", vector=type_)
    statement = statements["nearest_where" if wishes.where else "nearest"]
    facts = {**vars(wishes), "vector": vector.tolist(), "where": json.dumps(wishes.where)}
    with connection.transaction():
        store.see_pgvector(connection)
        if not wishes.exact:
            connection.execute(statements["tune"], facts)
            hits = [Hit(*row) for row in connection.execute(statement, facts)]
        if wishes.exact or len(hits) < wishes.count:
            connection.execute(statements["exact"])
            hits = [Hit(*row) for row in connection.execute(statement, facts)]
    return sorted(hits, key=lambda hit: -hit.similarity)


def parse_where(conditions: Iterable[str]) -> dict[str, Any]:
    """A metadata filter from JSON objects and `key=value` pairs, where a value that is no JSON is a string.

    Raises ConfigError for anything else.
    """
    where: dict[str, Any] = {}
    for condition in conditions:
        key, equals, value = condition.partition("=")
        parsed = _json(condition)
        if isinstance(parsed, dict):
            where |= parsed
        elif equals and key:
            where[key] = _json(value)
        else:
            raise ConfigError(f"--where {condition!r}: write key=value, or a JSON object")
    return where


def _json(text: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(text)
    except ValueError:
        return text
