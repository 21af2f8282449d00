"""Answers searches: embeds what is looked for, waits for what has to be there, and looks."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from psycopg_pool import ConnectionPool

from embedstream import canary, embedding, store
from embedstream.errors import ConfigError, Rejected, SpaceMoved
from embedstream.retry import Patience
from embedstream.search.freshness import read_as_of, wait_until
from embedstream.search.looking import Table, look
from embedstream.search.problem import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import TypeAlias

    import psycopg

    from embedstream.search.answer import Answer
    from embedstream.search.request import Request
    from embedstream.settings import Settings

    Connect: TypeAlias = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]
    Embed: TypeAlias = Callable[[Table, str], Any]

_CONNECTION_SECONDS = 5.0


def search(settings: Settings, request: Request) -> Answer:
    """One answer, over a connection of its own.

    Raises ConfigError where the service embeds with another model than the table's, or the request asks for what is not
    there, NotReached where the table does not come as far as it was to wait for.
    """
    with store.database(settings) as connection:

        @contextmanager
        def connect() -> Iterator[psycopg.Connection[Any]]:
            yield connection

        def embed(table: Table, words: str) -> Any:  # noqa: ANN401 - Embedded | Rejected
            return embedding.embed_query(settings, table.space, words, **_where(table))

        return _answer(settings, request, connect, embed)


class Searcher:
    """Answers searches for as long as a process lives, from any thread: it keeps connections, and an HTTP client."""

    def __init__(self, settings: Settings, connections: int = 8) -> None:
        self._settings = settings
        self._clients: dict[Table, embedding.EmbeddingClient] = {}
        self._lock = threading.Lock()
        self._pool: ConnectionPool[psycopg.Connection[Any]] = ConnectionPool(
            kwargs=lambda: store.parameters(settings), configure=store.configure, min_size=1, max_size=connections,
            timeout=_CONNECTION_SECONDS, check=ConnectionPool.check_connection, name="search", open=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._pool.close()
        for client in self._clients.values():
            client.close()

    def search(self, request: Request) -> Answer:
        """As `search`; raises StoreUnavailable where no connection is to be had."""
        return _answer(self._settings, request, self._connect, self._embed)

    @contextmanager
    def _connect(self) -> Iterator[psycopg.Connection[Any]]:
        with store.translated(self._settings), self._pool.connection() as connection:
            yield connection

    def _embed(self, table: Table, words: str) -> Any:  # noqa: ANN401 - Embedded | Rejected
        """A table of another model takes another client: each checks that the service has the one of its own."""
        with self._lock:
            client = self._clients.get(table)
            if client is None:
                client = embedding.EmbeddingClient(self._settings, table.space, Patience(), **_where(table))
                self._clients[table] = client
        return client.embed_query(words)


def _answer(settings: Settings, request: Request, connect: Connect, embed: Embed) -> Answer:
    """Where the table goes to another space between the query's vector and the look, all is asked anew."""
    while True:
        try:
            return _try(settings, request, connect, embed)
        except SpaceMoved:
            continue


def _try(settings: Settings, request: Request, connect: Connect, embed: Embed) -> Answer:
    with connect() as connection:
        table = Table.read(connection, settings)
    began = time.perf_counter()
    vector = _vector(request, table, embed)
    embedded = time.perf_counter()
    if request.wait_for:
        _wait(settings, request, connect)
    waited = time.perf_counter()
    with connect() as connection:
        answer = look(connection, settings, table, request, vector)
    took = {"embed": embedded - began, "wait": waited - embedded, "database": time.perf_counter() - waited}
    answer.took_ms.update({name: round(1000 * seconds, 1) for name, seconds in took.items()})
    return answer


def _where(table: Table) -> dict[str, Any]:
    """By what the service is known that has the table's model."""
    return {"also": table.service_url, "canary": canary.unpack(table.canary) if table.canary else None}


def _vector(request: Request, table: Table, embed: Embed) -> list[float] | None:
    if request.vector is not None:
        if len(request.vector) != table.space.dimension:
            raise InvalidRequest(
                f"vector: it has {len(request.vector)} numbers, but the table's have {table.space.dimension}"
            )
        return list(request.vector)
    if request.query is None or request.mode == "keyword":
        return None
    found = embed(table, request.query)
    if isinstance(found, Rejected):
        raise ConfigError(f"the search words cannot be embedded: {found.reason}")
    vector: list[float] = found.vector.tolist()
    return vector


def _wait(settings: Settings, request: Request, connect: Connect) -> None:
    """No connection is held between two looks, so that those who wait keep none from those who do not."""
    statements = store.statements(settings.pgvector_table, "freshness.sql")

    def read() -> dict[int, int] | None:
        with connect() as connection:
            return read_as_of(connection, settings, statements)

    wait_until(read, request.wait_for, request.timeout)
