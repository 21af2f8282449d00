"""Writes beside what the other model makes of texts: each only to the very text that it is of."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from embedstream import store
from embedstream.decode.message import content_hash
from embedstream.documents import Chunked, Held, cut_and_embed
from embedstream.embedding import EmbeddingClient
from embedstream.errors import Rejected
from embedstream.ingest import Embedded
from embedstream.splitting import splitter_of
from embedstream.store import chunk_rows
from embedstream.store import rows as store_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import psycopg
    from psycopg.sql import Composed

    from embedstream.decode.chunks import Splitter
    from embedstream.ingest import Embedder
    from embedstream.migrate.relations import Sql
    from embedstream.migrate.state import Beside
    from embedstream.retry import Patience
    from embedstream.settings import Settings
    from embedstream.space import Space


class Text(NamedTuple):
    """What a row has for the model."""

    id: str
    text: str
    prefix: str = ""


class Made(NamedTuple):
    """What came of some texts, in their order."""

    texts: Sequence[Text]
    results: Sequence[Embedded | Chunked | Rejected]

    @property
    def refused(self) -> dict[str, str]:
        """Why, by id."""
        pairs = zip(self.texts, self.results, strict=True)
        return {id: result.reason for (id, *_), result in pairs if isinstance(result, Rejected)}

    def as_given(self) -> dict[str, Any]:
        """The texts, without what came of them."""
        return {
            "id": [id for id, *_ in self.texts],
            "hash": [content_hash(text, prefix) for _, text, prefix in self.texts],
        }


class Filler(Protocol):
    """Fills the other table of one layout."""

    def embed(self, texts: Sequence[Text]) -> Made:
        """Of distinct ids."""
        ...

    def write(self, made: Made, *, copies: bool = False) -> int:
        """The number of rows that became complete, or with `copies` of those that were not there."""
        ...


@contextmanager
def filler(
    settings: Settings, connection: psycopg.Connection[Any], sql: Sql, found: Beside, patience: Patience
) -> Iterator[Filler]:
    """Raises ConfigError where the settings cut texts otherwise than those of the other table are."""
    own = settings.model_copy(update={"embedding_service_url": found.service_url})
    splitter = patience(lambda: splitter_of(own, found.space))
    store.check_splitting(found.splitting, splitter.identity if splitter else None, settings)
    prepared(connection, store.statements(settings.pgvector_table)["limits"])
    with EmbeddingClient(own, found.space, patience) as client:
        yield Documents(connection, sql, client, splitter, found.space) if splitter else Rows(connection, sql, client)


def prepared(connection: psycopg.Connection[Any], limits: Composed) -> None:
    """Have a connection of our own write vectors, with plans that read no table whole."""
    store_rows.register(connection)
    connection.execute(limits, {"local": False})


class Rows:
    """A text is a row; one that is refused has no vector."""

    def __init__(self, connection: psycopg.Connection[Any], sql: Sql, embedder: Embedder) -> None:
        self._connection = connection
        self._sql = sql
        self._embedder = embedder

    def embed(self, texts: Sequence[Text]) -> Made:
        results: dict[int, Embedded | Rejected] = {}
        for part in self._embedder.embed([each.text for each in texts]):
            results.update(part)
        return Made(texts, [results[position] for position in range(len(texts))])

    def write(self, made: Made, *, copies: bool = False) -> int:
        return self._connection.execute(self._sql["copy" if copies else "fill"], as_arrays(made)).rowcount


def as_arrays(made: Made) -> dict[str, Any]:
    """The vectors one after the other in one array; `first` and `last` are each text's part of it, from 1."""
    found = [each if isinstance(each, Embedded) else None for each in made.results]
    vectors = [each.vector for each in found if each]
    sizes = [len(each.vector) if each else 0 for each in found]
    lasts = np.cumsum(sizes).tolist()
    return {
        **made.as_given(),
        "first": [last - size + 1 if size else None for last, size in zip(lasts, sizes, strict=True)],
        "last": [last if size else None for last, size in zip(lasts, sizes, strict=True)],
        "token_count": [each.token_count if each else 0 for each in found],
        "truncated": [bool(each and each.truncated) for each in found],
        "vectors": np.concatenate(vectors) if vectors else np.zeros(0, np.float32),
    }


class Documents:
    """A text is cut anew; chunks that stand in the other table keep their vectors."""

    def __init__(
        self, connection: psycopg.Connection[Any], sql: Sql, embedder: Embedder, splitter: Splitter, space: Space
    ) -> None:
        self._connection = connection
        self._sql = sql
        self._embedder = embedder
        self._splitter = splitter
        self._space = space

    def embed(self, texts: Sequence[Text]) -> Made:
        held = {id: Held(None, keys) for id, keys in self._held([each.id for each in texts]).items()}
        _, results = cut_and_embed(texts, held, self._splitter, self._embedder)
        found = {text.id: result for part in results for text, result in part}
        return Made(texts, [found[each.id] for each in texts])

    def write(self, made: Made, *, copies: bool = False) -> int:
        with self._connection.transaction():
            given = made.as_given()
            copied = self._connection.execute(self._sql["copy"], given).rowcount if copies else 0
            cut = {**given, "splitting": self._splitter.identity}
            free = [id for (id,) in self._connection.execute(self._sql["hold"], cut)]
            done = self._replace(_complete(made, self._held(free)))
            return copied if copies else done

    def _held(self, ids: Collection[str]) -> dict[str, frozenset[bytes]]:
        """The keys of the chunks that stand in the other table; they stay while the documents are locked."""
        rows = self._connection.execute(self._sql["held"], {"id": list(ids)})
        return {id: frozenset(map(bytes, keys)) for id, keys in rows}

    def _replace(self, documents: Sequence[tuple[Text, Chunked]]) -> int:
        if not documents:
            return 0
        new = chunk_rows.new(documents)
        self._run("drop", chunk_rows.drop(documents))
        if new:
            self._run("add", chunk_rows.add(new, self._space))
        self._run("move", chunk_rows.move(documents))
        return self._run("settle_documents", _settled(documents))

    def _run(self, name: str, facts: dict[str, Any]) -> int:
        return self._connection.execute(self._sql[name], facts).rowcount if facts["id"] else 0


def _complete(made: Made, held: dict[str, frozenset[bytes]]) -> list[tuple[Text, Chunked]]:
    """Those that are `held` now, and of which nothing is missing: somebody may have removed what was there before."""
    return [
        (text, chunked._replace(held=Held(None, held[text.id])))
        for text, chunked in zip(made.texts, made.results, strict=True)
        if isinstance(chunked, Chunked)
        and text.id in held
        and held[text.id].union(chunked.embedded) >= {chunk.key for chunk in chunked.chunks}
    ]


def _settled(documents: Sequence[tuple[Text, Chunked]]) -> dict[str, Any]:
    return {
        "id": [text.id for text, _ in documents],
        "chunks": [len(chunked.chunks) for _, chunked in documents],
        "unseen": [chunked.unseen for _, chunked in documents],
    }
