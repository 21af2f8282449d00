"""One search, in one transaction: lists of keys, the page of them, and its rows."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from psycopg.sql import SQL, Composable

from embedstream import store
from embedstream.errors import SpaceMoved
from embedstream.search.answer import Answer, Chunk, Hit, Places
from embedstream.search.asked import Asked
from embedstream.search.filters import compile_filter
from embedstream.search.found import FUSED_WINDOWS, WINDOWS, Found, Lists
from embedstream.search.freshness import read_as_of
from embedstream.search.fusion import Fused, fuse
from embedstream.search.problem import InvalidRequest
from embedstream.search.request import FARTHEST
from embedstream.search.words import MARKED, any_of, spans, websearch
from embedstream.space import Space
from embedstream.store.words import WORDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg.sql import Composed

    from embedstream.search.answer import Method
    from embedstream.search.found import Key
    from embedstream.search.request import Request
    from embedstream.settings import Settings


class Table(NamedTuple):
    """What a search has to know of its table; `service_url` is the address that a migration left with it, `canary` as
    tables keep it.
    """

    space: Space
    is_chunked: bool
    service_url: str | None = None
    canary: bytes | None = None

    @classmethod
    def read(cls, connection: psycopg.Connection[Any], settings: Settings) -> Table:
        """Raises ConfigError where there is none, which ends a transaction. In one statement."""
        space = store.Names.of(settings.pgvector_table).space
        with suppress(psycopg.errors.UndefinedTable):
            # Columns that tables of an earlier version lack are none's.
            for (facts,) in connection.execute(SQL("SELECT to_jsonb(pinned) FROM {} AS pinned").format(space)):
                named = Space(*(facts[name] for name in Space._fields))
                kept = facts.get("canary")
                return cls(
                    named, facts.get("splitting") is not None, facts.get("service_url"),
                    bytes.fromhex(kept.removeprefix("\\x")) if kept else None,
                )  # fmt: skip
        raise store.no_table(settings)


class _Ranked(NamedTuple):
    """The list that the page is cut from."""

    rows: Sequence[Fused]
    method: Method
    complete: bool


def look(
    connection: psycopg.Connection[Any],
    settings: Settings,
    table: Table,
    request: Request,
    vector: Sequence[float] | None,
) -> Answer:
    """The answer of one moment; `vector` is that of the query, None where the request has no words to embed.

    Raises SpaceMoved where the table is of another space than `table` says.
    """
    with connection.transaction():
        return _Look(connection, settings, table, request, vector).answer()


class _Look:
    def __init__(
        self,
        connection: psycopg.Connection[Any],
        settings: Settings,
        table: Table,
        request: Request,
        vector: Sequence[float] | None,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._table = table
        self._request = request
        self._is_chunked = table.is_chunked
        self._is_grouped = request.group_by is not None and table.is_chunked
        self._counts: Counter[str] = Counter()
        self._filter, conditions = _filter(request)
        self._facts: dict[str, Any] = {
            **conditions, "vector": vector and _array(vector), "ef_search": request.ef_search,
            "marking": _marking(request),
        }  # fmt: skip

    def answer(self) -> Answer:
        self._begin()
        if Table.read(self._connection, self._settings) != self._table:
            raise SpaceMoved(f"table {self._settings.pgvector_table} holds vectors of another space now")
        store.see_pgvector(self._connection)
        freshness = store.statements(self._settings.pgvector_table, "freshness.sql")
        as_of = read_as_of(self._connection, self._settings, freshness)
        if self._request.id is not None:
            self._facts["vector"] = _array(self._like(self._request.id))
        ranked = self._ranked()
        page = ranked.rows[self._request.offset : self._request.end]
        hits = self._hits(page)
        if self._request.mode == "semantic":
            hits.sort(key=lambda hit: (-hit.score, hit.id))
        more = len(ranked.rows) > self._request.end and self._request.end < FARTHEST
        return Answer(
            tuple(hits), ranked.method, ranked.complete, as_of, next_offset=self._request.end if more else None
        )

    def _begin(self) -> None:
        begin = store.statements(self._settings.pgvector_table, "snapshot.sql")
        self._connection.execute(begin["snapshot"])
        self._connection.execute(begin["hold"])
        relation = store.Names.of(self._settings.pgvector_table).table.as_string()
        *_, classes = self._connection.execute(begin["tune"], {"relation": relation}).fetchall()[0]
        self._index = Asked.of(classes, self._settings, self._table.space.dimension)
        self._statements = self._filled()

    def _filled(self) -> dict[str, Composed]:
        _, type_ = store.vector_type(self._table.space.dimension)
        return store.statements(
            self._settings.pgvector_table, "search.sql", vector=type_, filter=self._filter, words=WORDS,
            nearness=self._index.nearness, key=SQL("id, chunk_key" if self._is_chunked else "id"),
            headline=MARKED if self._request.highlight and _marking(self._request) else SQL("NULL"),
        )  # fmt: skip

    def _like(self, id: str) -> list[float]:
        (vector,) = self._connection.execute(self._statements["like"], {"id": id}).fetchall()[0]
        if vector is None:
            raise InvalidRequest("id: the table has no row of this id")
        return list(vector)

    def _ranked(self) -> _Ranked:
        """One row more than is asked for tells whether there is another page."""
        request = self._request
        need = request.end + (request.end < FARTHEST)
        columns = 2 if self._is_chunked else 1
        lists = Lists(self._connection, self._statements, self._facts, columns, exact=request.exact, index=self._index)
        match request.mode:
            case "semantic" if self._is_grouped:
                return _ranked(lists.documents(need, request.min_similarity))
            case "semantic":
                return _ranked(lists.by_meaning(need, WINDOWS, request.min_similarity))
            case "keyword":
                found = self._by_words(lists, need, widens=True)
                rows = [Fused(row.key, row.score, None, Places(None, n)) for n, row in enumerate(found.rows, 1)]
                return self._grouped(_Ranked(rows, found.method, found.complete), need, are_all=found.are_all)
        depth = FARTHEST if self._is_grouped else max(need, FUSED_WINDOWS[0])
        semantic = lists.by_meaning(depth, FUSED_WINDOWS, request.min_similarity)
        keyword = self._by_words(lists, need, widens=False)
        rows = fuse(semantic.rows, keyword.rows)
        ranked = _Ranked(rows, semantic.method, keyword.complete)
        return self._grouped(ranked, need, are_all=semantic.are_all and keyword.are_all)

    def _by_words(self, lists: Lists, need: int, *, widens: bool) -> Found:
        """Where no text has all of the words, those that have some, if `widens`."""
        query = self._request.query or ""
        found = lists.by_words(websearch(query), need)
        wider = any_of(query) if widens and not found.rows else None
        return lists.by_words(wider, need) if wider else found

    def _grouped(self, found: _Ranked, need: int, *, are_all: bool) -> _Ranked:
        """Each document once, where documents are asked for, by the chunk of it that stands first."""
        if not self._is_grouped:
            return found
        first: dict[str, Fused] = {}
        for row in found.rows:
            first.setdefault(row.key[0], row)
        self._counts = Counter(row.key[0] for row in found.rows)
        return _Ranked(list(first.values()), found.method, found.complete and (are_all or len(first) >= need))

    def _hits(self, page: Sequence[Fused]) -> list[Hit]:
        counts: Mapping[str, int] = self._counts
        if self._is_grouped and self._request.mode == "semantic":
            page, counts = self._best_chunks(page)
        rows = self._rows([fused.key for fused in page])
        return [self._hit(fused, rows[fused.key], counts) for fused in page]

    def _hit(self, fused: Fused, row: tuple[Any, ...], counts: Mapping[str, int]) -> Hit:
        text, source, moment, metadata, truncated, headline, *place = row
        is_document = self._request.group_by is not None and not self._is_chunked
        whole = Chunk(0, 0, len(text)) if is_document else None
        return Hit(
            fused.key[0], fused.similarity, fused.score, text, source, moment, metadata, truncated,
            chunk=Chunk(*place) if place else whole, places=fused.places,
            highlights=spans(text, headline) if headline else (),
            matching_chunks=1 if is_document else counts.get(fused.key[0]),
        )  # fmt: skip

    def _best_chunks(self, page: Sequence[Fused]) -> tuple[list[Fused], dict[str, int]]:
        facts = {**self._facts, "ids": [fused.key[0] for fused in page]}
        found = self._connection.execute(self._statements["best_chunks"], facts).fetchall()
        best = {id: (key, similarity) for id, key, similarity, _ in found}
        chunks = [
            fused._replace(key=(fused.key[0], key), similarity=similarity, score=similarity)
            for fused in page
            for key, similarity in [best[fused.key[0]]]
        ]
        return chunks, {id: count for id, _, _, count in found}

    def _rows(self, keys: Sequence[Key]) -> dict[Key, tuple[Any, ...]]:
        facts = {**self._facts, "ids": [key[0] for key in keys], "keys": [key[-1] for key in keys]}
        if self._is_chunked:
            rows = self._connection.execute(self._statements["chunks"], facts)
            return {row[:2]: row[2:] for row in rows}
        return {row[:1]: row[1:] for row in self._connection.execute(self._statements["rows"], facts)}


def _array(vector: Sequence[float]) -> str:
    """As PostgreSQL writes an array: several statements take it, and each would write it anew."""
    return f"{{{','.join(map(repr, vector))}}}"


def _ranked(found: Found) -> _Ranked:
    rows = [Fused(row.key, row.score, row.score, Places(n)) for n, row in enumerate(found.rows, 1)]
    return _Ranked(rows, found.method, found.complete)


def _marking(request: Request) -> str | None:
    words = " ".join(part for part in (request.query, request.words) if part)
    return websearch(words) if words else None


def _filter(request: Request) -> tuple[Composable, dict[str, Any]]:
    """The SQL that every row has to hold, and its parameters."""
    parts: list[Composable] = []
    facts: dict[str, Any] = {}
    if request.where is not None:
        sql, facts = compile_filter(request.where)
        parts.append(sql)
    for name, condition in _CONDITIONS.items():
        value = getattr(request, name)
        if value is not None:
            parts.append(condition)
            facts[f"only_{name}"] = websearch(value) if name == "words" else value
    return SQL(" AND ").join(parts) if parts else SQL("true"), facts


_CONDITIONS: dict[str, Composable] = {
    "after": SQL("message_timestamp >= %(only_after)s"),
    "before": SQL("message_timestamp < %(only_before)s"),
    "id": SQL("id <> %(only_id)s"),
    "words": SQL("{} @@ websearch_to_tsquery('simple', %(only_words)s)").format(WORDS),
}
