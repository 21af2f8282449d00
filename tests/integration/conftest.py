from __future__ import annotations

import shutil

import pytest

from embedstream import store
from embedstream.settings import load_settings
from support.index import fill, space
from support.kafka import kafka_broker
from support.postgres import postgres_server
from support.secure_kafka import secure_broker
from support.service import running_service


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    with postgres_server(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
def database(postgres):
    """Settings that lead to a database of the test's own."""
    with postgres.fresh_database() as name:
        yield load_settings(pgvector_host=postgres.host, pgvector_port=postgres.port, pgvector_db=name)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory):
    with kafka_broker(tmp_path_factory.mktemp("kafka")) as bootstrap_servers:
        yield bootstrap_servers


@pytest.fixture(scope="session")
def secure(tmp_path_factory):
    """A broker with logins, rights and a policy."""
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificates")
    with secure_broker(tmp_path_factory.mktemp("secure")) as secure:
        yield secure


@pytest.fixture(scope="session")
def service_url(tmp_path_factory):
    with running_service(tmp_path_factory.mktemp("service"), EMBEDDING_PRECISION="f32") as service:
        yield service.url


@pytest.fixture
def filled(database):
    """Settings that lead to a table of 2,000 rows, which nobody tidies up: that may look like a build that begins."""
    store.prepare(database, space(8))
    fill(database, 2000)
    with store.connect(database) as connection:
        connection.execute("ALTER TABLE text_message_embeddings SET (autovacuum_enabled = off)")
    return database
