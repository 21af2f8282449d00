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
    from psycopg.sql import Composable, Composed

    from embedstream.settings import Settings

    Condition: TypeAlias = tuple[dict[str, Any], ...]


# How many chunks are taken from the index for each document that is asked for, and how many times as many next.
_CHUNKS_EACH = 4
_WIDENING = 8


class Hit(NamedTuple):
    """A row, and the cosine similarity (-1 to 1) of its text to the words."""

    similarity: float
    id: str
    text: str
    source: str | None
    message_timestamp: datetime
    metadata: dict[str, Any]


class Document(NamedTuple):
    """The chunk of a document that is nearest to the words, and where it stands in the document's text.

    `matching_chunks` counts those of the document that are as near as the last document that is given, or nearer.
    """

    similarity: float
    id: str
    text: str
    source: str | None
    message_timestamp: datetime
    metadata: dict[str, Any]
    seq: int
    start: int
    end: int
    matching_chunks: int


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
        return nearest(connection, settings, _embedded(connection, settings, words), wishes)


def search_documents(settings: Settings, words: str, wishes: Wishes = Wishes()) -> list[Document]:
    """The nearest documents, each once, best first; raises ConfigError as `search` does."""
    with store.database(settings) as connection:
        return nearest_documents(connection, settings, _embedded(connection, settings, words), wishes)


def _embedded(connection: psycopg.Connection[Any], settings: Settings, words: str) -> np.ndarray[Any, Any]:
    space = store.pinned_space(connection, settings)
    found = embedding.embed_query(settings, space, words)
    if isinstance(found, Rejected):
        raise ConfigError(f"the search words cannot be embedded: {found.reason}")
    return found.vector


def nearest(
    connection: psycopg.Connection[Any], settings: Settings, vector: np.ndarray[Any, Any], wishes: Wishes
) -> list[Hit]:
    """The rows nearest to a vector of shape (dimension,).

    Where the index has fewer rows than were asked for, since few pass the filter, all rows are looked at.
    """
    statements, facts = _prepared(settings, vector, wishes)
    with connection.transaction():
        store.see_pgvector(connection)
        if not wishes.exact:
            connection.execute(statements["tune"], facts)
            hits = [Hit(*row) for row in connection.execute(statements["nearest"], facts)]
        if wishes.exact or len(hits) < wishes.count:
            connection.execute(statements["exact"])
            hits = [Hit(*row) for row in connection.execute(statements["nearest"], facts)]
    return sorted(hits, key=lambda hit: -hit.similarity)


def nearest_documents(
    connection: psycopg.Connection[Any], settings: Settings, vector: np.ndarray[Any, Any], wishes: Wishes
) -> list[Document]:
    """The documents whose best chunks are nearest to a vector; a text that is no chunk is a document of one.

    More and more chunks are taken from the index until they are of enough documents; where it has no more, all are
    looked at.
    """
    if store.read_splitting(connection, settings) is None:
        hits = nearest(connection, settings, vector, wishes)
        return [Document(*hit, 0, 0, len(hit.text), 1) for hit in hits]
    statements, facts = _prepared(settings, vector, wishes)
    with connection.transaction():
        store.see_pgvector(connection)
        candidates = wishes.count * _CHUNKS_EACH
        while not wishes.exact:
            connection.execute(statements["tune"], {**facts, "count": candidates})
            documents, seen = _documents(connection, statements, facts, candidates)
            if len(documents) == wishes.count:
                return documents
            if seen < candidates:
                break
            candidates *= _WIDENING
        connection.execute(statements["exact"])
        documents, _ = _documents(connection, statements, facts, None)
    return documents


def _documents(
    connection: psycopg.Connection[Any], statements: dict[str, Composed], facts: dict[str, Any], candidates: int | None
) -> tuple[list[Document], int]:
    """The documents among the candidates, and how many of these there were."""
    rows = connection.execute(statements["nearest_documents"], {**facts, "candidates": candidates}).fetchall()
    return [Document(*row[:-1]) for row in rows], rows[0][-1] if rows else 0


def _prepared(
    settings: Settings, vector: np.ndarray[Any, Any], wishes: Wishes
) -> tuple[dict[str, Composed], dict[str, Any]]:
    """The statements of the search, and their parameters."""
    _, type_ = store.vector_type(len(vector))
    filtered, conditions = _filter(wishes.where)
    statements = store.statements(settings.pgvector_table, "search.sql", vector=type_, filter=filtered)
    return statements, {
        "count": wishes.count, "ef_search": wishes.ef_search, "vector": vector.tolist(), **conditions
    }  # fmt: skip


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
    return (SQL("WHERE ") + SQL(" AND ").join(parts) if parts else SQL("")), facts


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
