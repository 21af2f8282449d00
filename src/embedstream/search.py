"""Semantic search: the rows whose vectors are nearest to that of the words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg.sql import SQL

from embedstream import embedding, store
from embedstream.errors import ConfigError, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from embedstream.settings import Settings


class Hit(NamedTuple):
    """A row, and the cosine similarity (-1 to 1) of its text to the words."""

    similarity: float
    id: str
    text: str
    source: str | None
    message_timestamp: datetime
    metadata: dict[str, Any]


def search(settings: Settings, words: str, count: int = 10, where: dict[str, Any] | None = None) -> list[Hit]:
    """The `count` nearest rows, best first, of those whose metadata contain `where` (jsonb's @>).

    Raises ConfigError where the service embeds with another model than the table's.
    """
    with store.database(settings) as connection:
        space = store.pinned_space(connection, settings)
        vector = embedding.embed_one(settings, space, words)
        if isinstance(vector, Rejected):
            raise ConfigError(f"the search words cannot be embedded: {vector.reason}")
        statement = SQL(
            "SELECT 1 - (embedding <=> %(vector)s::real[]::vector), id, text, source, message_timestamp, metadata"
            " FROM {vectors} WHERE metadata @> %(where)s::jsonb ORDER BY embedding <=> %(vector)s::real[]::vector"
            " LIMIT %(count)s"
        ).format(vectors=store.Names.of(settings.pgvector_table).vectors)
        facts = {"vector": vector.vector.tolist(), "where": json.dumps(where or {}), "count": count}
        return [Hit(*row) for row in connection.execute(statement, facts)]


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
