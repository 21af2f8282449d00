"""What a table has in it: its rows as they stand, and of which fields their metadata is."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import psycopg

from embedstream import store
from embedstream.errors import ConfigError
from embedstream.mcp.answers import Message, MetadataField, Table
from embedstream.mcp.budget import CHARACTERS, HIDDEN, NOTE, Budget, cut

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from psycopg.sql import Composed

    from embedstream.console.parts import Pipeline
    from embedstream.settings import Settings

_LOOKED_AT = 1000
# A table is sampled by its pages: of one that is larger than this, so many rows.
_SAMPLED = 4 * _LOOKED_AT
# Beyond, reading every row only to know the earliest time is not worth it.
_SPAN_MILLISECONDS = 2000
_MOST_FIELDS = 60
_DEEPEST = 3
_EXAMPLES = 3
_EXAMPLE_CHARACTERS = 80
_PLAIN = re.compile(r'[^."]+')
_TYPES = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}


def message(settings: Settings, id: str, start: int) -> Message:
    """Raises ConfigError where the table has no such row."""
    facts = {"id": id, "start": start + 1, "most": CHARACTERS}
    with store.database(settings) as connection:
        row = connection.execute(_statements(settings)["message"], facts).fetchone()
    if row is None:
        raise ConfigError(f"table {settings.pgvector_table} has no row {id}: where_is tells what became of it")
    text, characters, source, moment, embedded, metadata, model, tokens, truncated, chunks = row
    text, metadata = (budget := Budget(1)).take(text, metadata)
    is_cut = budget.is_cut or start + len(text) < characters
    hides = settings.console_hide_texts
    return Message(
        id=id, text=None if hides else text, start=start, characters=characters, source=source,
        message_timestamp=moment, embedding_timestamp=embedded, metadata=metadata, model=model, tokens=tokens,
        truncated=truncated, chunks=chunks if settings.is_chunked else None,
        note=HIDDEN if hides else NOTE if is_cut else None,
    )  # fmt: skip


def table(pipeline: Pipeline) -> Table:
    """Raises an error of ours where the database does not answer, or there is no table."""
    settings = pipeline.settings
    told = bare(pipeline)
    with store.database(settings) as connection:
        space = store.pinned_space(connection, settings)
        rows = store.read_counts(connection, settings).rows
        statements = _statements(settings)
        looked_at = _sample(connection, statements, rows)
        first, last = _span(connection, statements)
    return told.model_copy(update={
        "model": space.model_name, "dimension": space.dimension, "rows": rows, "first_message": first,
        "last_message": last, "rows_looked_at": len(looked_at), "metadata": fields_of(looked_at),
    })  # fmt: skip


def bare(pipeline: Pipeline, trouble: str | None = None) -> Table:
    """What is known without looking."""
    settings = pipeline.settings
    return Table(
        pipeline=pipeline.name, topic=settings.kafka_input_topic, table=settings.pgvector_table,
        dead_letter_topic=settings.kafka_dead_letter_topic, chunked=settings.is_chunked, trouble=trouble,
    )  # fmt: skip


def _statements(settings: Settings) -> Mapping[str, Composed]:
    return store.statements(settings.pgvector_table, "described.sql", documents=store.documents_for(settings))


def _sample(connection: psycopg.Connection[Any], statements: Mapping[str, Composed], rows: int) -> list[dict[str, Any]]:
    percent = 100.0 if rows <= _SAMPLED else 100 * _SAMPLED / rows
    found = connection.execute(statements["sample"], {"percent": percent, "most": _LOOKED_AT})
    return [metadata for (metadata,) in found]


def _span(connection: psycopg.Connection[Any], statements: Mapping[str, Composed]) -> tuple[Any, Any]:
    """The earliest and the latest time of a message; not known where that takes too long."""
    try:
        with connection.transaction():
            connection.execute(statements["patience"], {"milliseconds": str(_SPAN_MILLISECONDS)})
            return connection.execute(statements["span"]).fetchone() or (None, None)
    except psycopg.errors.QueryCanceled:
        return None, None


def fields_of(rows: Iterable[Mapping[str, Any]]) -> list[MetadataField]:
    """The most frequent first."""
    counts: Counter[str] = Counter()
    types: dict[str, dict[str, None]] = {}
    examples: dict[str, Counter[str]] = {}
    for metadata in rows:
        for field, value in _flat("metadata", metadata, 0):
            counts[field] += 1
            types.setdefault(field, {})[_TYPES.get(type(value), "number")] = None
            if not isinstance(value, dict):
                examples.setdefault(field, Counter())[json.dumps(value, ensure_ascii=False)] += 1
    return [
        MetadataField(field=field, types=list(types[field]), rows=count, examples=_examples(examples.get(field)))
        for field, count in counts.most_common(_MOST_FIELDS)
    ]


def _flat(path: str, value: Mapping[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        field = f"{path}.{key if _PLAIN.fullmatch(key) else json.dumps(key, ensure_ascii=False)}"
        yield field, inner
        if isinstance(inner, dict) and depth < _DEEPEST:
            yield from _flat(field, inner, depth + 1)


def _examples(values: Counter[str] | None) -> list[Any]:
    """The most frequent values; what is long stands as the beginning of its JSON."""
    return [
        json.loads(value) if len(value) <= _EXAMPLE_CHARACTERS else cut(value, _EXAMPLE_CHARACTERS)
        for value, _ in (values or Counter()).most_common(_EXAMPLES)
    ]
