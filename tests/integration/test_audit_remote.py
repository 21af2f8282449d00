"""The audit of a table whose vectors come from a remote server, and that keeps no canary of it."""

from contextlib import contextmanager

import numpy as np
import pytest

from embedstream import embedding, store
from embedstream.audit import Wishes, audit
from embedstream.embedding import EmbeddingClient
from embedstream.retry import Patience
from support.audit import Job, own_settings
from support.remote import KEY, OpenAi, served, vector
from support.service import running_service

SAMPLE = Wishes(sample=100)


@contextmanager
def before(server, directory):
    """The address of a gateway; one keeps vectors, so that each server has its own."""
    with served(server) as url:
        settings = {"REMOTE_URL": f"{url}/v1", "REMOTE_MODEL": server.model, "REMOTE_KEY": KEY}
        with running_service(directory, EMBEDDING_ENGINE="remote", **settings) as service:
            yield service.url


class Wobbling(OpenAi):
    """One whose vectors differ in the fourth decimal place, as OpenAI's do: by more than those of one machine may."""

    def rows(self, texts):
        return [_shaken(row, text) for row, text in zip(super().rows(texts), texts, strict=True)]


def _shaken(row, text):
    """At a cosine of 0.9995."""
    aside = vector(f"aside {text}", len(row))
    aside -= row * (row @ aside)
    return (np.cos(0.0316) * row + np.sin(0.0316) * aside / np.linalg.norm(aside)).astype(np.float32)


@pytest.fixture
def job(database, kafka, tmp_path):
    with before(OpenAi(), tmp_path) as url:
        settings = own_settings(database, kafka).model_copy(update={"embedding_service_url": url})
        space = embedding.read_space(settings)
        with EmbeddingClient(settings, space, Patience()) as client:
            job = Job(settings, space, client)
            for n in range(20):
                job.send(f"id-{n}", f"text {n}")
            job.run()
            yield job


def test_a_table_without_a_canary_is_compared_as_any_other(job):
    with store.database(job.settings) as connection:
        assert store.read_canary(connection, job.settings) is None
    report = audit(job.settings, SAMPLE)
    assert (report.equal, report.sampled) == (True, 20)


@pytest.mark.parametrize(("server", "kinds"), [(Wobbling(), {}), (OpenAi(), {"bad_vector": 20})])
def test_a_server_may_wobble_and_not_move(job, tmp_path, server, kinds):
    """Without a canary only a sample can tell."""
    server.seed = "another model " if kinds else ""
    with before(server, tmp_path) as url:
        settings = job.settings.model_copy(update={"embedding_service_url": url})
        assert embedding.read_space(settings) == job.space
        assert audit(settings).equal
        assert audit(settings, SAMPLE).kinds == kinds
