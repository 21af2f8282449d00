"""`embedstream index` on the command line; like cli.py it imports what a command needs inside of it."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from embedstream.display import as_json, duration, progress, say
from embedstream.errors import ConfigError
from embedstream.options import AsJson, OfPipeline, command_group
from embedstream.pipelines.choice import pipeline_settings
from embedstream.search import options

if TYPE_CHECKING:
    from embedstream.index.state import Index, Kind
    from embedstream.settings import Settings

app = command_group(
    "Build, drop and look at the vector index; without one searches are exact. With --words, or --metadata, the index "
    "that searches by words, or filters by metadata, use."
)

OfWords = Annotated[bool, typer.Option("--words", help="The word index, for searches by words.")]
OfMetadata = Annotated[bool, typer.Option("--metadata", help="The metadata index, for filters.")]
EfSearch = options.EfSearch


def _kind(*, words: bool, metadata: bool) -> Kind:
    if words and metadata:
        raise ConfigError("--words and --metadata: give one of them")
    return "words" if words else "metadata" if metadata else "vector"


@app.command("build")
def build_(
    words: OfWords = False, metadata: OfMetadata = False, pipeline: OfPipeline = None, json: AsJson = False
) -> None:
    """Build the index beside readers and writers, unless there is a valid one; Ctrl-C ends the build.

    INDEX_MEMORY_MB and INDEX_WORKERS say what PostgreSQL may take for it.

    Example: embedstream index build
    """
    from embedstream.index.build import build

    settings, kind = pipeline_settings(pipeline), _kind(words=words, metadata=metadata)
    began = time.monotonic()
    rows, before = _look(settings, kind)
    done = 0
    with progress("building the index", total=rows) as update:

        def watch(index: Index) -> None:
            nonlocal done
            done = max(done, index.tuples or 0)
            update(done)

        build(settings, watch, kind=kind)
    took = time.monotonic() - began
    _print(settings, kind, json=json, seconds=took)
    if not json:
        say("it was there already" if before.state == "valid" else f"built in {duration(took)}")


@app.command("drop")
def drop_(
    words: OfWords = False, metadata: OfMetadata = False, pipeline: OfPipeline = None, json: AsJson = False
) -> None:
    """Drop the index, before a bulk load; ends its build where one is under way.

    It is not built by itself (INDEX=auto) until a backlog has come and gone.

    Example: embedstream index drop
    """
    from embedstream.index.build import drop

    index = drop(pipeline_settings(pipeline), _kind(words=words, metadata=metadata))
    say(as_json({"dropped": index.name}) if json else f"dropped {index.name}" if index.name else "there was no index")


@app.command()
def status(
    words: OfWords = False, metadata: OfMetadata = False, pipeline: OfPipeline = None, json: AsJson = False
) -> None:
    """Show whether there is an index, and how far its build is; exit 1 where it is invalid.

    Example: embedstream index status --json
    """
    index = _print(pipeline_settings(pipeline), _kind(words=words, metadata=metadata), json=json)
    sys.exit(index.state == "invalid")


@app.command()
def recall(
    count: Annotated[int, typer.Option("-k", "--count", min=1, max=1000, help="The nearest rows to find.")] = 10,
    rows: Annotated[int, typer.Option(min=1, max=10_000, help="So many rows, chosen at random, are looked for.")] = 20,
    ef_search: EfSearch = None,
    pipeline: OfPipeline = None,
    json: AsJson = False,
) -> None:
    """Measure how many of the nearest rows searches by the vector index find, against exact searches.

    A row that is written between the two searches counts as missed.

    Example: embedstream index recall --ef-search 200
    """
    from embedstream.index.recall import as_lines, measure
    from embedstream.search.searcher import Searcher

    settings = pipeline_settings(pipeline)
    with Searcher(settings, connections=1) as searcher:
        found = measure(settings, searcher.search, k=count, queries=rows, ef_search=ef_search, watch=progress)
    say(as_json(found) if json else "\n".join(as_lines(found)))


def _print(settings: Settings, kind: Kind, *, json: bool, **more: float) -> Index:
    from embedstream.index.state import WITHOUT, as_line

    rows, index = _look(settings, kind)
    if json:
        say(as_json({"table": settings.pgvector_table, "rows": rows, **asdict(index), **more, "kind": kind}))
    else:
        say(f"table {settings.pgvector_table}, {rows:,} rows\n{_TITLES[kind]} {as_line(index, kind)}")
        say(index.definition or WITHOUT[kind])
    return index


_TITLES: dict[Kind, str] = {"vector": "index", "words": "word index", "metadata": "metadata index"}


def _look(settings: Settings, kind: Kind) -> tuple[int, Index]:
    from embedstream import store
    from embedstream.index.state import Catalog

    with store.database(settings) as connection:
        catalog = Catalog(connection, settings, kind)
        return catalog.count(), catalog.look()
