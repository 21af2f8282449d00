"""The audit of a table that is on its way to another model."""

import pytest

from embedstream import store
from embedstream.audit import audit, beside, proof
from embedstream.errors import ConfigError
from embedstream.migrate.begin import begin
from embedstream.migrate.swap import switch
from support.audit import Job, execute, own_settings
from support.migration import fill
from support.service import running_service

pytestmark = pytest.mark.timeout(240)
NEXT = "text_message_embeddings_next"


@pytest.fixture(scope="module")
def other_url(tmp_path_factory):
    with running_service(tmp_path_factory.mktemp("service"), "fake:12") as service:
        yield service.url


@pytest.fixture
def job(database, kafka):
    job = Job(own_settings(database, kafka))
    for n in range(60):
        job.send(f"id-{n % 40}", f"text {n}")
    job.run()
    return job


def test_the_other_table_is_compared_as_well(job, other_url):
    assert audit(job.settings).beside is None
    begin(job.settings, other_url, 1.0)
    job.send("id-1", "another text")
    job.run()
    report = audit(job.settings)
    assert report.equal
    assert report.beside == (NEXT, 1, 1, 39, 0, 0)
    fill(job.settings)
    report = audit(job.settings)
    assert report.beside == (NEXT, 40, 0, 0, 0, 0)
    assert report.as_facts()["beside"]["rows"] == 40
    assert f"rows of table {NEXT}" in str(report)


@pytest.mark.parametrize(
    ("damage", "wrong"),
    [
        ("UPDATE {} SET text = 'other' WHERE id = 'id-1'", 1),
        ("UPDATE {} SET metadata = '{{}}', source = 'x' WHERE id IN ('id-1', 'id-2')", 2),
        ("DELETE FROM {} WHERE id = 'id-1'", 1),
        ("INSERT INTO {} SELECT (json_populate_record(t, '{{\"id\": 0}}')).* FROM {} AS t WHERE id = 'id-1'", 1),
        ("UPDATE {} SET embedding[1] = 'NaN' WHERE id = 'id-1'", 1),
    ],
)  # fmt: skip
def test_a_row_of_it_that_is_wrong_is_a_finding(job, other_url, damage, wrong):
    begin(job.settings, other_url, 1.0)
    fill(job.settings)
    execute(job.settings, damage.format(NEXT, NEXT))
    report = audit(job.settings)
    assert (report.equal, report.kinds) == (False, {"beside": wrong})


def test_a_vector_of_another_text_is_found_by_a_sample(job, other_url):
    begin(job.settings, other_url, 1.0)
    fill(job.settings)
    another = f"(SELECT embedding FROM {NEXT} WHERE id = 'id-2')"
    execute(job.settings, f"UPDATE {NEXT} SET embedding = {another} WHERE id = 'id-1'")
    assert audit(job.settings).equal
    with store.connect(job.settings) as connection, connection.transaction():
        store.see_pgvector(connection)
        found = beside.look(connection, job.settings, 100)
    assert (found.wrong, found.sampled) == (1, 40)


def test_a_table_that_moves_while_it_is_audited(job, other_url, monkeypatch):
    begin(job.settings, other_url, 1.0)
    fill(job.settings)
    read = proof._Proof.read_topics

    def read_and_move(proof):
        read(proof)
        switch(job.settings, "cut-over")

    monkeypatch.setattr(proof._Proof, "read_topics", read_and_move)
    with pytest.raises(ConfigError, match="went to another model during the audit: run it again"):
        audit(job.settings)
