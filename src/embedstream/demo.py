"""The demo: real prose through the whole pipeline, found again by meaning."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from psycopg.sql import SQL

from embedstream import kafka, store
from embedstream.corpus import docstrings
from embedstream.display import console, first_line, progress, say, table
from embedstream.errors import ConfigError
from embedstream.kafka import Outgoing
from embedstream.search.conditions import as_filter, parse_where
from embedstream.search.request import Request
from embedstream.search.searcher import search

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from embedstream.corpus import Docstring
    from embedstream.settings import Settings

WORDS = "parse a date from a string"
_POLL = 0.02


def run(settings: Settings, limit: int | None = None, patience: float = 600.0) -> None:
    """Send the standard library's docstrings, wait until the table has them, and show what can be done with it.

    Raises ConfigError where nothing arrives any more for `patience` seconds.
    """
    messages = docstrings()[:limit]
    with store.database(settings) as connection:
        _load(connection, settings, messages, patience)
        _show_query(connection, settings)
        _show_search(settings)
        _show_update_and_delete(connection, settings, patience)
    _show_dead_letter(settings, patience)


def _load(connection: psycopg.Connection[Any], settings: Settings, messages: list[Docstring], patience: float) -> None:
    starts = {position.partition: position.end for position in kafka.positions(settings)}
    began = time.monotonic()
    sent = kafka.produce(settings, settings.kafka_input_topic, (_record(message) for message in messages))
    say(f"\nSent {sent} docstrings of Python's standard library to topic {settings.kafka_input_topic}.")
    with progress("embedding", total=sent) as update:
        wait_for(lambda: _arrived(connection, settings, starts), sent, patience, update)
    seconds = time.monotonic() - began
    console.print(
        f"All {sent} are in table {settings.pgvector_table} after {seconds:.1f} s: {sent / seconds:,.0f} a second."
    )


def _record(message: Docstring) -> Outgoing:
    metadata = {"module": message.module, "kind": message.kind}
    body = {"id": message.name, "text": message.text, "source": "docstrings", "metadata": metadata}
    return Outgoing(json.dumps(body).encode(), message.name.encode())


def _arrived(connection: psycopg.Connection[Any], settings: Settings, starts: dict[int, int]) -> int:
    """How many ids the ledger holds in a version that was produced from `starts` on."""
    statement = SQL(
        "SELECT count(*) FROM {} JOIN unnest(%s::int[], %s::bigint[]) AS s (partition, first) USING (partition)"
        ' WHERE topic = %s AND "offset" >= first'
    ).format(store.Names.of(settings.pgvector_table).ledger)
    facts = [list(starts), list(starts.values()), settings.kafka_input_topic]
    return int(connection.execute(statement, facts).fetchall()[0][0])


def wait_for(
    done: Callable[[], int], total: int, patience: float, update: Callable[[int], None] = lambda _: None
) -> None:
    last, since = -1, time.monotonic()
    while (now := done()) < total:
        update(now)
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > patience:
            raise ConfigError(
                f"nothing arrived for {patience:.0f} s: see the job at FLINK_REST_URL, and embedstream status"
            )
        time.sleep(_POLL)
    update(now)


def _show_query(connection: psycopg.Connection[Any], settings: Settings) -> None:
    query = SQL("SELECT id, model_name, embedding[1:5] FROM {} LIMIT 5;").format(
        store.Names.of(settings.pgvector_table).table
    )
    rows = connection.execute(query)
    shown = [(id, model, " ".join(f"{number:+.4f}" for number in vector)) for id, model, vector in rows]
    heading(query.as_string().replace('"', ""))
    say(table(["id", "model_name", "embedding"], shown))


def _show_search(settings: Settings) -> None:
    heading(f'embedstream search "{WORDS}" -k 5 --where kind=function')
    wanted = Request(query=WORDS, k=5, where=as_filter(parse_where(["kind=function"])))
    hits = search(settings, wanted).hits
    say(table(["similarity", "id", "text"], [(f"{hit.similarity:.3f}", hit.id, first_line(hit.text)) for hit in hits]))


def _show_update_and_delete(connection: psycopg.Connection[Any], settings: Settings, patience: float) -> None:
    heading("An update and a delete take effect")
    id = "demo-note"
    steps = [("new", "The first text."), ("update", "The second text wins."), ("delete", None)]
    for what, text in steps:
        value = None if text is None else json.dumps({"id": id, "text": text}).encode()
        kafka.produce(settings, settings.kafka_input_topic, [Outgoing(value, id.encode())])
        began = time.monotonic()
        wait_for(partial(_has_text, connection, settings, id, text), 1, patience)
        shown = "no row" if text is None else repr(text)
        say(f"{what:<7} {id}: {shown}, {(time.monotonic() - began) * 1000:.0f} ms after Kafka had it")


def _has_text(connection: psycopg.Connection[Any], settings: Settings, id: str, text: str | None) -> bool:
    statement = SQL("SELECT text FROM {} WHERE id = %s").format(store.Names.of(settings.pgvector_table).table)
    return connection.execute(statement, [id]).fetchone() == (text and (text,))


def _show_dead_letter(settings: Settings, patience: float) -> None:
    heading("What cannot be stored is a dead letter, with its reason")
    value = b'{"id": "demo-broken", "text": 42}'
    with kafka.tail(settings, settings.kafka_dead_letter_topic) as new_records:
        kafka.produce(settings, settings.kafka_input_topic, [Outgoing(value, b"demo-broken")])
        record = next((record for record in new_records(patience) if record.value() == value), None)
    if record is None:
        raise ConfigError(f"no dead letter came within {patience:.0f} s: see the job at FLINK_REST_URL")
    say(f"sent        {value.decode()}")
    headers = kafka.headers_of(record)
    for name in ("dlq.stage", "dlq.error", "dlq.reason"):
        say(f"{name:<11} {(headers[name] or b'').decode()}")


def heading(text: str) -> None:
    console.print(f"\n{text}", style="bold", markup=False, soft_wrap=True)


def show_next_steps(settings: Settings) -> None:
    heading("The stack is up. Where to look next")
    steps = [
        ('eval "$(.venv/bin/embedstream local env)"', "lets any client and every command below reach the stack"),
        ('.venv/bin/embedstream search "walk a directory tree"', "search by meaning"),
        (".venv/bin/embedstream status", "messages, lag, rows, dead letters, rate"),
        (
            f"http://{settings.console_host}:{settings.console_port}",
            "the console: see, search, and find out where a message is",
        ),
        (settings.flink_rest_url, "the job in Flink's dashboard"),
        (f"{settings.embedding_service_url}/health", "the embedding service"),
        ("make down", "stops everything; the data stays"),
    ]
    width = max(len(step) for step, _ in steps)
    for step, what in steps:
        say(f"  {step:<{width}}  {what}")
