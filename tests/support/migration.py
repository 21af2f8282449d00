"""A table that is migrated: written as the job writes it, and compared with an independent account of it."""

import json
import random

import numpy as np

from embedstream import embedding, store
from embedstream.decode.message import Record
from embedstream.decode.opening import decoder_of
from embedstream.display import silently
from embedstream.embedding import EmbeddingClient
from embedstream.ingest import Ingest
from embedstream.migrate.begin import begin
from embedstream.migrate.following import Built, Following, Stays
from embedstream.migrate.second import MigratingStore
from embedstream.migrate.throttle import Throttle
from embedstream.migrate.work import work
from embedstream.retry import Patience

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
        store.prepare(settings, embedding.read_space(settings))

    def _build(self):
        with store.database(self.settings) as connection:
            space = store.read_space(connection, self.settings)
            also = store.read_service(connection, self.settings)
        client = EmbeddingClient(self.settings, space, Stays(Patience(), self.settings, space), also=also.url)
        table = MigratingStore(store.TableStore(self.settings, space), self.settings)
        decode = decoder_of(self.settings, space.model_name, *also.former_models)

        def close():
            table.close()
            client.close()

        return Built(Ingest(client, table, decode, Patience()), space, close)

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
                records.append(self.record(id, f"text {self.random.random()}", n=self.offset))
        self.following(records)

    @property
    def live(self):
        return {id: row for id, row in self.rows.items() if row[0] is not None}


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
