"""The demo of change data capture: rows of a PostgreSQL table, found by meaning while they change."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg.sql import SQL

from embedstream import store
from embedstream.audit import audit
from embedstream.corpus import docstrings
from embedstream.demo import heading, wait_for
from embedstream.display import first_line, progress, say, table
from embedstream.errors import ConfigError
from embedstream.kafka import read
from embedstream.local.files import write_whole
from embedstream.local.stack import Stack, ensure_up, stack_settings
from embedstream.pipelines.choice import all_settings
from embedstream.search.request import Request
from embedstream.search.searcher import search

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import psycopg

    from embedstream.settings import Settings

PIPELINE = "articles"
TABLE = """\
CREATE SCHEMA IF NOT EXISTS shop;
CREATE TABLE IF NOT EXISTS shop.articles (
    id bigint PRIMARY KEY, title text, body text, lang text, updated_at timestamptz
)"""
CONNECTOR = """\
topic.prefix=demo
table.include.list=shop.articles
slot.name=demo_articles
publication.name=demo_articles
"""
PIPELINES = """\
version: 1
pipelines:
  articles:
    topic: demo.shop.articles
    format: {key: json, value: json}
    envelope: debezium
    text: value.body
    metadata: {title: value.title, lang: value.lang}
    table: article_embeddings
"""

_COUNT = 40
_LONG = 1000
_NOTE = 1001
_GARDEN = "Cut back the branches of apple trees in late winter, before the buds swell, and paint larger wounds."
_BREAD = "Feed the sourdough starter every morning with equal weights of flour and water, and keep it warm."


class Article(NamedTuple):
    """A row of the source, but for its time."""

    id: int
    title: str
    body: str
    lang: str = "en"


@dataclass(frozen=True)
class _Demo:
    settings: Settings
    connection: psycopg.Connection[Any]
    patience: float

    def change(self, statement: str, *values: object) -> None:
        self.connection.execute(statement.encode(), values)

    def wait(self, update: Callable[[int], None] = lambda _: None) -> None:
        """Until the embeddings are those of the source's rows, as PostgreSQL compares them."""
        [(rows,)] = self.connection.execute("SELECT count(*) FROM shop.articles").fetchall()
        wait_for(self._done, rows, self.patience, update)

    def _done(self) -> int:
        """The rows whose embeddings are theirs, less the embeddings that belong to none."""
        statement = SQL(
            "SELECT count(*) FILTER (WHERE body = text AND lang = metadata->>'lang')"
            " - count(*) FILTER (WHERE a.id IS NULL) FROM shop.articles a FULL JOIN {} e ON e.id = a.id::text"
        )
        embeddings = store.Names.of(self.settings.pgvector_table).table
        return int(self.connection.execute(statement.format(embeddings)).fetchall()[0][0])


def start(directory: Path) -> Settings:
    """The settings of the demo's pipeline, in a stack of its own that runs when this returns.

    The table is there before Debezium reads it, which takes a first start of PostgreSQL alone.
    """
    directory.mkdir(parents=True, exist_ok=True)
    pipelines, connector = directory / "embedstream.yaml", directory / "demo.properties"
    write_whole(pipelines, PIPELINES)
    write_whole(connector, CONNECTOR)
    os.environ["EMBEDSTREAM_FILE"] = str(pipelines.absolute())
    stack = Stack(directory)
    if not stack.state().is_running:
        _prepare(stack)
    return all_settings(ensure_up(directory, [connector]))[PIPELINE]


def _prepare(stack: Stack) -> None:
    if stack.up_in_background(("postgres",), {}, print):
        raise ConfigError(f"PostgreSQL did not start; see {stack.log}")
    with store.database(stack_settings(stack.state().ports)) as connection:
        connection.execute(TABLE.encode())
        _put(connection, articles()[: _COUNT // 2])
    stack.down()
    say(f"\nTable shop.articles has {_COUNT // 2} rows, which Debezium takes as a snapshot. Now the whole stack:\n")


def _put(connection: psycopg.Connection[Any], rows: Sequence[Article]) -> None:
    statement = (
        b"INSERT INTO shop.articles VALUES (%s, %s, %s, %s, now()) ON CONFLICT (id) DO UPDATE"
        b" SET title = excluded.title, body = excluded.body, lang = excluded.lang, updated_at = now()"
    )
    with connection.cursor() as cursor:
        cursor.executemany(statement, rows)


def articles() -> list[Article]:
    """Docstrings of the standard library, and the longest: all of one module."""
    found = docstrings()
    functions = [each for each in found if each.kind == "function" and len(each.text) > 200]  # noqa: PLR2004 - prose
    step = len(functions) // (_COUNT - 1)
    some = functions[::step][: _COUNT - 1]
    long = "\n\n".join(each.text for each in found if each.module == "statistics")
    rows = [Article(number, each.name, each.text) for number, each in enumerate(some, 1)]
    return [*rows, Article(_LONG, "statistics", long)]


def run(settings: Settings, patience: float = 600.0) -> None:
    """Change rows, wait until the embeddings follow, and show what can be found.

    Raises ConfigError where nothing arrives any more for `patience` seconds, or table and topic differ in the end.
    """
    with store.database(settings) as connection:
        demo = _Demo(settings, connection, patience)
        _load(demo)
        _show_changes(demo)
        _show_unchanged_text(demo)
        _show_delete(demo)
    _show_audit(settings)


def _load(demo: _Demo) -> None:
    rows = articles()
    began = time.monotonic()
    demo.change("DELETE FROM shop.articles WHERE NOT id = ANY(%s)", [row.id for row in rows])
    _put(demo.connection, rows[_COUNT // 2 :])
    say(f"\nTable shop.articles has {len(rows)} rows now; Debezium sends its changes through Kafka.")
    with progress("embedding", total=len(rows)) as update:
        demo.wait(update)
    say(f"All {len(rows)} are in table {demo.settings.pgvector_table} after {time.monotonic() - began:.1f} s.")


def _show_changes(demo: _Demo) -> None:
    heading("An insert and an update can be found")
    steps = [
        ("INSERT", "INSERT INTO shop.articles VALUES (%s, 'note', %s, 'en', now())", (_NOTE, _BREAD)),
        ("UPDATE", "UPDATE shop.articles SET body = %s, updated_at = now() WHERE id = %s", (_GARDEN, _NOTE)),
    ]
    for what, statement, values in steps:
        say(f"{what}  article {_NOTE} is there {_changed(demo, statement, *values)}")
    _show_search(demo, "look after fruit trees")
    _show_search(demo, "bake bread")


def _changed(demo: _Demo, statement: str, *values: object) -> str:
    began = time.monotonic()
    demo.change(statement, *values)
    demo.wait()
    return f"{(time.monotonic() - began) * 1000:.0f} ms after PostgreSQL had it"


def _show_unchanged_text(demo: _Demo) -> None:
    heading("A long text that did not change is kept")
    changed = _changed(demo, "UPDATE shop.articles SET lang = 'en-GB' WHERE id = %s", _LONG)
    say(f"UPDATE  the language of article {_LONG} is there {changed}")
    say(f"        Debezium sent {_last_row(demo.settings, _LONG)['body']} for its body")
    embeddings = store.Names.of(demo.settings.pgvector_table).table
    stored = SQL("SELECT length(text), metadata->>'lang' FROM {} WHERE id = %s").format(embeddings)
    length, lang = demo.connection.execute(stored, [str(_LONG)]).fetchall()[0]
    say(f"        the table has {length:,} characters of text and lang = {lang}")


def _last_row(settings: Settings, id: int) -> dict[str, Any]:
    values = (record.value() for record in read(settings, settings.kafka_input_topic))
    rows = [json.loads(value)["after"] for value in values if value]
    found: dict[str, Any] = [row for row in rows if row and row["id"] == id][-1]
    return found


def _show_delete(demo: _Demo) -> None:
    heading("A delete takes effect")
    changed = _changed(demo, "DELETE FROM shop.articles WHERE id = %s", _NOTE)
    say(f"DELETE  article {_NOTE} is gone {changed}")
    _show_search(demo, "look after fruit trees")


def _show_search(demo: _Demo, words: str) -> None:
    heading(f'embedstream search "{words}" -k 3')
    hits = search(demo.settings, Request(query=words, k=3)).hits
    rows = [(f"{hit.similarity:.3f}", hit.id, hit.metadata["title"], first_line(hit.text)) for hit in hits]
    say(table(["similarity", "id", "title", "text"], rows))


def _show_audit(settings: Settings) -> None:
    heading("embedstream audit")
    # The offsets of the last records are committed with the next checkpoint.
    wait_for(partial(_is_equal, settings), 1, 60.0)
    say(audit(settings))


def _is_equal(settings: Settings) -> bool:
    report = audit(settings)
    return report.equal and not report.outcomes.in_flight


def show_next_steps(directory: Path) -> None:
    heading("The stack is up. Where to look next")
    steps = [
        (f'eval "$(.venv/bin/embedstream local env --dir {directory})"', "lets every command below reach the stack"),
        ("psql -h $PGVECTOR_HOST -p $PGVECTOR_PORT -U $PGVECTOR_USER $PGVECTOR_DB", "change rows of shop.articles"),
        ('.venv/bin/embedstream search "walk a directory tree"', "search by meaning"),
        (".venv/bin/embedstream pipelines try articles", "the latest changes, and what becomes of them"),
        (f"{directory}/embedstream.yaml", "the pipeline; demo.properties beside it is the connector"),
        (f".venv/bin/embedstream local down --dir {directory}", "stops everything; the data stays"),
    ]
    width = max(len(step) for step, _ in steps)
    for step, what in steps:
        say(f"  {step:<{width}}  {what}")
