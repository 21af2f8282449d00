"""A table that is migrated: written as the job writes it, and compared with an independent account of it."""

import json
import random
from contextlib import contextmanager

import numpy as np
from psycopg.sql import SQL

from embedstream import embedding, store
from embedstream.decode.message import Record, embedded_text
from embedstream.decode.opening import decoder_of
from embedstream.decode.spec import Chunks, Decoding
from embedstream.display import silently
from embedstream.documents import DocumentIngest
from embedstream.embedding import EmbeddingClient
from embedstream.ingest import Ingest
from embedstream.migrate.begin import begin
from embedstream.migrate.following import Built, Following, Stays
from embedstream.migrate.second import MigratingDocuments, MigratingStore
from embedstream.migrate.standing import read_standing
from embedstream.migrate.throttle import Throttle
from embedstream.migrate.work import work
from embedstream.retry import Patience
from embedstream.splitting import splitter_of
from support.service import running_service

TOPIC = "t"
T0 = 1_764_000_000_000


class Worker:
    """A worker of the job, whose records are made up; `rows` is what must stand in the table, by id."""

    def __init__(self, settings, seed=7, prefix="id"):
        self.settings = settings
        self.prefix = prefix
        self.random = random.Random(seed)
        self.offset = 0
        self.rows = {}
        self.versions = {}
        self.following = Following(self._build, Patience())
        space = embedding.read_space(settings)
        splitter = splitter_of(settings, space)
        store.prepare(settings, space, splitting=splitter and splitter.identity)

    def _build(self):
        with store.database(self.settings) as connection:
            space = store.read_space(connection, self.settings)
            also = store.read_service(connection, self.settings)
        client = EmbeddingClient(self.settings, space, Stays(Patience(), self.settings, space), also=also.url)
        decode = decoder_of(self.settings, space.model_name, *also.former_models)
        if splitter := splitter_of(self.settings, space, also.url):
            table = MigratingDocuments(store.DocumentStore(self.settings, space), self.settings)
            ingest = DocumentIngest(client, table, decode, Patience(), splitter)
        else:
            table = MigratingStore(store.TableStore(self.settings, space), self.settings)
            ingest = Ingest(client, table, decode, Patience())

        def close():
            table.close()
            client.close()

        return Built(ingest, space, close)

    def close(self):
        if self.following._built:
            self.following._built.close()

    def write(self, *changes):
        """Changes are (id, text or None for a delete, when in ms)."""
        records = [self.record(*change) for change in changes]
        return [outcome.kind for outcome in self.following(records)]

    def record(self, id, text, at=None, **metadata):
        self.offset += 1
        at = self.offset if at is None else at
        if self.versions.get(id, (-1, -1)) < (at, self.offset):
            self.versions[id] = at, self.offset
            self.rows[id] = (text, metadata)
        value = None if text is None else json.dumps({"text": text, "metadata": metadata}).encode()
        return Record(id.encode(), value, TOPIC, 0, self.offset, T0 + at)

    def traffic(self, count, ids):
        """Texts, repeats with other metadata, deletes and late versions, of so many ids."""
        records = []
        for _ in range(count):
            id, kind = f"{self.prefix}-{self.random.randrange(ids)}", self.random.random()
            text, _ = self.rows.get(id, (None, {}))
            if kind < 0.15:
                records.append(self.record(id, None))
            elif kind < 0.3 and text is not None:
                records.append(self.record(id, text, n=self.offset))
            elif kind < 0.45:
                records.append(self.record(id, f"late {self.offset}", max(0, self.offset - self.random.randrange(99))))
            else:
                records.append(self.record(id, self.text(text), n=self.offset))
        self.following(records)

    def text(self, before):
        """The next one of an id."""
        return f"text {self.random.random()}"

    @property
    def live(self):
        return {id: row for id, row in self.rows.items() if row[0] is not None}


class DocumentWorker(Worker):
    """As Worker, of a table of chunks: texts of some paragraphs, of which one or two change; titles change, too."""

    def __init__(self, settings, seed=7, prefix="id"):
        chunks = Chunks(overlap=4, prefix="value.metadata.title")
        super().__init__(settings.model_copy(update={"decoding": Decoding(chunks=chunks)}), seed, prefix)

    def record(self, id, text, at=None, **metadata):
        title = {"title": f"Title {self.offset // 150}"} if self.random.random() < 0.7 else {}
        return super().record(id, text, at, **{**title, **metadata})

    def text(self, before):
        parts = before.split("\n\n") if before else [self.paragraph() for _ in range(self.random.randrange(1, 9))]
        at = self.random.randrange(len(parts))
        parts[at : at + self.random.randrange(2)] = [self.paragraph() for _ in range(self.random.randrange(3))]
        return "\n\n".join(parts) or "no more"

    def paragraph(self):
        return f"Paragraph {self.random.random()}: " + "so many words, " * self.random.randrange(2, 12) + "and no more."


@contextmanager
def two_services(directory):
    """The addresses of the table's own service, and of one whose model reads less."""
    one = running_service(directory, "fake:16", EMBEDDING_MAX_TOKENS="60")
    other = running_service(directory, "fake:12", EMBEDDING_MAX_TOKENS="40")
    with one as own, other as another:
        yield own.url, another.url


def standing(settings):
    with store.database(settings) as connection:
        return read_standing(connection, settings)


def query(settings, statement):
    with store.connect(settings) as connection:
        return connection.execute(statement.encode()).fetchall()


def execute(settings, statement):
    with store.connect(settings) as connection:
        connection.execute(statement.encode())


def assert_looks_up_each(connection, sql, facts, *statements):
    """By their plans the statements compare no row that they are given with every row of a table."""
    for statement in statements:
        explained = SQL("EXPLAIN {}").format(sql[statement])
        plan = "\n".join(line for (line,) in connection.execute(explained, facts))
        assert "Join Filter" not in plan, plan


def unthrottled():
    return Throttle(1.0, lambda: 0)


def started(settings, url):
    """Begun, and filled."""
    begin(settings, url, 1.0)
    return fill(settings)


def fill(settings):
    return work(settings, unthrottled(), silently)


def assert_holds(settings, table, expected, url):
    """Each row is the expected one, and its vector the service's own answer for its text."""
    if settings.is_chunked:
        assert_holds_documents(settings, table, expected, url)
        return
    with store.connect(settings) as connection:
        found = connection.execute(
            f"SELECT id, text, metadata, embedding, model_name, token_count FROM {table} ORDER BY id".encode()
        ).fetchall()
    assert {id: (text, metadata) for id, text, metadata, *_ in found} == expected
    own = settings.model_copy(update={"embedding_service_url": url})
    space = embedding.read_space(own)
    with EmbeddingClient(own, space, Patience()) as client:
        answers = {}
        texts = [row[1] for row in found]
        for part in client.embed(texts):
            answers.update(part)
    for position, (id, _, _, vector, model, tokens) in enumerate(found):
        assert model == space.model_name, id
        assert vector is not None, id
        assert np.array_equal(np.array(vector, np.float32), answers[position].vector), id
        assert tokens == answers[position].token_count


def assert_holds_documents(settings, table, expected, url):
    """Each document is the expected one, and has the very chunks that the service's tokenizer makes of it."""
    with store.connect(settings) as connection:
        documents = connection.execute(
            f"SELECT id, text, metadata, prefix, chunks, unseen FROM {table}_documents ORDER BY id".encode()
        ).fetchall()
        rows = connection.execute(
            'SELECT id, chunk_key, seq, start, "end", text, embedding, model_name'
            f" FROM {table} ORDER BY id, seq".encode()
        ).fetchall()
    assert {id: (text, metadata) for id, text, metadata, *_ in documents} == expected
    own = settings.model_copy(update={"embedding_service_url": url})
    space = embedding.read_space(own)
    splitter = splitter_of(own, space)
    cut = {id: splitter.split(text, prefix) for id, text, _, prefix, *_ in documents}
    assert [row[:6] for row in rows] == [(id, *chunk) for id, chunks in cut.items() for chunk in chunks]
    assert {id: (count, unseen) for id, *_, count, unseen in documents} == {id: (len(cut[id]), 0) for id in cut}
    prefixes = {id: prefix for id, _, _, prefix, *_ in documents}
    with EmbeddingClient(own, space, Patience()) as client:
        answers = dict(
            pair for part in client.embed([embedded_text(prefixes[r[0]], r[5]) for r in rows]) for pair in part
        )
    for position, row in enumerate(rows):
        assert row[7] == space.model_name, row[0]
        assert np.array_equal(np.array(row[6], np.float32), answers[position].vector), row[:5]
