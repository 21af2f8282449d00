"""What the shape of a topic costs the whole pipeline: Avro through a registry beside the default, chunks beside texts.

The first two have a stub for the model; the latter two the model itself, since only a model's tokenizer cuts texts.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
from psycopg.sql import SQL

from benchmarks.plan import Contender, Figures, Plan
from benchmarks.shapes import AVRO, MAPPED, avro, rows
from benchmarks.stack import running_service, running_stack
from embedstream import kafka, store
from embedstream.decode.chunks import Splitter
from embedstream.decode.spec import Chunks
from embedstream.errors import EmbedstreamError
from embedstream.jars import cache_directory
from embedstream.kafka import Outgoing
from embedstream.local.part import running
from embedstream.local.ports import free_port
from embedstream.local.registry import Registry
from embedstream.pipelines.choice import load_file, settings_of
from embedstream.service.engine.model import find_model
from embedstream.service.engine.tokens import TextTokenizer
from embedstream.standing import look

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.shapes import Write
    from benchmarks.stack import Stack
    from embedstream.settings import Settings

TITLE = "Formats: messages a second from topic to committed rows, by the topic's shape"
FIGURE = "texts_per_second"
BASELINE = "default"

DOCUMENT = 20_000
_POLL = 0.2
_PATIENCE = 600.0


class _Pipeline(NamedTuple):
    """`write` makes a record's value of a row."""

    settings: Settings
    write: Write


def contenders(plan: Plan) -> Iterator[Contender]:
    start = plan.closing.enter_context
    stack = start(running_stack(plan.directory, jobs=4))
    stub = start(running_service(plan.directory, "fake:384"))
    home = plan.directory / "registry"
    registry = Registry(home, free_port(), free_port(), cache_directory(stack.settings), home / "registry.log")
    start(running(registry))
    file = _pipeline_file(plan.directory, registry.address)

    def pipeline(name: str, write: Write, **changes: Any) -> _Pipeline:
        base = stack.settings.model_copy(update={"embedstream_file": file, **changes})
        settings = settings_of(name, load_file(file).pipelines[name], base)
        start(_running(stack, settings, name))
        return _Pipeline(settings, write)

    write = avro(_registered(registry.address), AVRO)
    for name, made in (
        (BASELINE, pipeline("default", _json, embedding_service_url=stub)),
        ("Avro, mapped", pipeline("avro", write, embedding_service_url=stub)),
    ):
        yield Contender(name, partial(_messages, plan, made))
    whole, chunked = pipeline("whole", _json), pipeline("chunks", _json)
    yield Contender("chunks, each a message", partial(_parts, plan, whole, _splitter(stack.settings)))
    yield Contender(f"documents of {DOCUMENT:,} characters", partial(_documents, plan, chunked))


def _running(stack: Stack, settings: Settings, name: str) -> Any:  # noqa: ANN401 - a context
    return stack.running_job(settings, sys.executable, "-m", "embedstream", "submit", "--pipeline", name)


def _messages(plan: Plan, pipeline: _Pipeline, number: int) -> Figures:
    made = rows(plan.texts(number, plan.count(number, 40_000, 2000)))
    return {FIGURE: len(made) / _seconds(pipeline, made, number)}


def _documents(plan: Plan, pipeline: _Pipeline, number: int) -> Figures:
    made = rows(_texts_of_documents(plan, number))
    before = _count(pipeline.settings)
    seconds = _seconds(pipeline, made, number)
    chunks = _count(pipeline.settings) - before
    return {FIGURE: chunks / seconds, "documents_per_second": len(made) / seconds}


def _parts(plan: Plan, pipeline: _Pipeline, splitter: Splitter, number: int) -> Figures:
    """The same texts, cut already."""
    texts = [part.text for document in _texts_of_documents(plan, number) for part in splitter.split(document)]
    return {FIGURE: len(texts) / _seconds(pipeline, rows(texts), number)}


def _texts_of_documents(plan: Plan, number: int) -> list[str]:
    count = plan.count(number, 60, 4)
    whole = " ".join(plan.texts(number, count * 200))
    return [whole[at : at + DOCUMENT] for at in range(0, DOCUMENT * count, DOCUMENT)]


def _seconds(pipeline: _Pipeline, made: Sequence[dict[str, Any]], number: int) -> float:
    """From the first record produced until the table has the outcome of every one."""
    settings = pipeline.settings
    named = [row | {"id": f"{number}-{row['id']}"} for row in made]
    records = [Outgoing(pipeline.write(row), str(row["id"]).encode()) for row in named]
    began = time.monotonic()
    kafka.produce(settings, settings.kafka_input_topic, records)
    while _unread(settings):
        if time.monotonic() - began > _PATIENCE:
            raise EmbedstreamError(f"{settings.kafka_input_topic} is not done after {_PATIENCE:.0f} s")
        time.sleep(_POLL)
    return time.monotonic() - began


def _unread(settings: Settings) -> int:
    return look(settings, lambda: store.database(settings)).log.unread


def _count(settings: Settings) -> int:
    with store.connect(settings) as connection:
        query = SQL("SELECT count(*) FROM {}").format(store.Names.of(settings.pgvector_table).table)
        return int(connection.execute(query).fetchall()[0][0])


def _registered(url: str) -> int:
    answer = httpx.post(f"{url}/subjects/avro-value/versions", json={"schema": json.dumps(AVRO)}, timeout=30)
    answer.raise_for_status()
    return int(answer.json()["id"])


def _pipeline_file(directory: Path, registry: str) -> Path:
    """JSON is YAML."""
    avro_ = {**MAPPED, "format": {"value": "registry"}, "registry": registry}
    shapes: dict[str, dict[str, Any]] = {
        "default": {}, "avro": avro_, "whole": {}, "chunks": {"chunks": {}},
    }  # fmt: skip
    pipelines = {name: {"topic": name, "table": f"{name}_rows", **shape} for name, shape in shapes.items()}
    path = directory / "embedstream.yaml"
    path.write_text(json.dumps({"version": 1, "pipelines": pipelines}), encoding="utf-8")
    return path


def _json(row: dict[str, Any]) -> bytes:
    return json.dumps({"id": row["id"], "text": row["body"], "timestamp": row["at"]}).encode()


def _splitter(settings: Settings) -> Splitter:
    return Splitter(Chunks(), TextTokenizer(find_model(settings.embedding_model)).described)
