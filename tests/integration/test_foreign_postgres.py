"""PostgreSQL as people have it: poolers, roles, limits, triggers, policies, schemas."""

import shutil

import numpy as np
import psycopg
import pytest

from embedstream import store
from embedstream.audit import audit
from embedstream.decode.message import Delete
from embedstream.errors import ConfigError, StoreUnavailable
from embedstream.index.build import build
from embedstream.ingest import Change
from embedstream.settings import load_settings
from embedstream.status import parts
from support.index import change, fill, space
from support.pgbouncer import pgbouncer
from support.search import nearest

TABLE = "text_message_embeddings"
SPACE = space(8)


@pytest.fixture
def table(database):
    store.prepare(database, SPACE)
    table = store.TableStore(database, SPACE)
    yield table
    table.close()


def query(settings, sql, *parameters):
    with store.connect(settings) as connection:
        cursor = connection.execute(sql, parameters or None)
        return cursor.fetchall() if cursor.description else []


def some(*numbers):
    return [change(number, np.full(8, number + 1.0, np.float32)) for number in numbers]


def newer(changes):
    return [each._replace(item=each.item._replace(version=each.item.version._replace(offset=99))) for each in changes]


TRIGGER = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} END $$;
CREATE TRIGGER guard BEFORE {} ON text_message_embeddings FOR EACH ROW EXECUTE FUNCTION refuse();
"""
REFUSALS = {
    "it raises": ("IF NEW.id = '7' THEN RAISE 'secret %', NEW.text; END IF; RETURN NEW;", "sqlstate_P0001"),
    "it asserts": ("ASSERT NEW.id <> '7'; RETURN NEW;", "sqlstate_P0004"),
    "it has codes of its own": ("IF NEW.id = '7' THEN RAISE SQLSTATE 'U0042'; END IF; RETURN NEW;", "sqlstate_U0042"),
    "it leaves the row out": ("IF NEW.id = '7' THEN RETURN NULL; END IF; RETURN NEW;", "row_skipped"),
}


@pytest.mark.parametrize("how", REFUSALS)
@pytest.mark.parametrize("are_there", [False, True], ids=["new rows", "rows that are there"])
def test_a_row_that_a_trigger_refuses_costs_only_itself(table, database, how, are_there):
    if are_there:
        table.write(some(*range(20)))
    body, code = REFUSALS[how]
    query(database, TRIGGER.format(body, "INSERT OR UPDATE"))
    written = table.write(newer(some(*range(20))))
    assert {id: error.code for id, error in written.rejected.items()} == {"7": code}
    assert "secret" not in str(written.rejected["7"])
    assert len(written.won) == 19
    [(rows, ids)] = query(database, f"SELECT (SELECT count(*) FROM {TABLE}), (SELECT count(*) FROM {TABLE}_ledger)")
    assert rows == ids == (20 if are_there else 19)


def test_a_delete_that_a_trigger_undoes_is_told(table, database):
    table.write(some(7, 8))
    query(database, TRIGGER.format("IF OLD.id = '7' THEN RETURN NULL; END IF; RETURN OLD;", "DELETE"))
    deletes = [Delete(each.item.id, each.item.version._replace(offset=99)) for each in some(7, 8, 9)]
    written = table.write([Change(each) for each in deletes])
    assert {id: error.code for id, error in written.rejected.items()} == {"7": "row_skipped"}
    assert query(database, f"SELECT id FROM {TABLE}") == [("7",)]


def test_a_row_that_stands_there_without_an_entry_of_the_ledger_is_replaced(table, database):
    table.write(some(1, 2, 3))
    query(database, f"DELETE FROM {TABLE}_ledger")
    assert table.write(some(1, 2, 3, 4)).won == {"1", "2", "3", "4"}
    assert query(database, f"SELECT count(*) FROM {TABLE}") == [(4,)]


@pytest.fixture
def role(database, postgres):
    """Settings of a user who owns nothing, but may do what the job does."""
    query(database, "DROP ROLE IF EXISTS app")
    query(database, "CREATE ROLE app LOGIN")
    yield database.model_copy(update={"pgvector_user": "app"})
    query(database, "DROP OWNED BY app")
    query(database, "DROP ROLE app")


def grant(settings):
    """What doctor asks for, and no more."""
    query(settings, f"GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLE} TO app")
    query(settings, f"GRANT SELECT, INSERT, UPDATE ON {TABLE}_ledger, {TABLE}_progress TO app")
    query(settings, f"GRANT SELECT ON {TABLE}_space, text_message_vectors TO app")


def test_a_user_who_owns_nothing_may_submit_and_write(table, database, role):
    grant(database)
    store.prepare(role, SPACE)
    theirs = store.TableStore(role, SPACE)
    assert len(theirs.write(some(1, 2)).won) == 2
    theirs.close()
    with store.connect(role) as connection:
        assert store.lacking_rights(connection, role) == []


def test_what_a_user_may_not_make_is_told_with_who_may(role):
    with pytest.raises(ConfigError, match=r"submit once as the owner.*GRANT SELECT, INSERT, UPDATE, DELETE"):
        store.prepare(role, SPACE)


def test_missing_rights_are_waited_for_and_charged_to_no_row(table, database, role):
    theirs = store.TableStore(role, SPACE)
    with pytest.raises(StoreUnavailable, match="permission denied"):
        theirs.write(some(1, 2))
    grant(database)
    assert len(theirs.write(some(1, 2)).won) == 2
    theirs.close()


def test_a_row_that_a_policy_refuses_costs_only_itself(table, database, role):
    grant(database)
    query(database, f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY")
    query(database, f"CREATE POLICY p ON {TABLE} TO app USING (true) WITH CHECK (id <> '7')")
    theirs = store.TableStore(role, SPACE)
    written = theirs.write(some(*range(20)))
    theirs.close()
    assert {id: error.code for id, error in written.rejected.items()} == {"7": "sqlstate_42501"}
    assert len(written.won) == 19


def test_limits_of_the_role_do_not_end_what_is_meant_to_take_long(database, role):
    store.prepare(database, SPACE)
    grant(database)
    for limit in ("statement_timeout = '40ms'", "idle_in_transaction_session_timeout = '40ms'"):
        query(database, f"ALTER ROLE app SET {limit}")
    fill(role, 2000)
    with store.database(role, long=True) as connection:
        connection.execute("SELECT pg_sleep(0.2)")
    with pytest.raises(ConfigError, match="statement_timeout"), store.database(role) as connection:
        connection.execute("SELECT pg_sleep(0.2)")


def test_times_are_in_utc_and_dates_are_read_whatever_the_role_says(table, database, role):
    grant(database)
    table.write(some(1))
    query(database, "ALTER ROLE app SET timezone = 'Asia/Kathmandu'")
    query(database, "ALTER ROLE app SET datestyle = 'German, DMY'")
    [(here,)] = query(database, f"SELECT message_timestamp FROM {TABLE}")
    [(there,)] = query(role, f"SELECT message_timestamp FROM {TABLE}")
    assert (there, there.utcoffset()) == (here, here.utcoffset())


def test_pgvector_may_live_in_another_schema(database):
    query(database, "CREATE SCHEMA extensions")
    query(database, "CREATE EXTENSION vector SCHEMA extensions")
    store.prepare(database, SPACE)
    fill(database, 300)
    assert build(database).state == "valid"
    with store.connect(database) as connection:
        assert len(nearest(connection, database, some(1)[0].embedded.vector, 5)) == 5


def test_a_password_file_is_read_anew_at_each_connection(tmp_path, monkeypatch):
    given = []
    file = tmp_path / "token"
    monkeypatch.setenv("PGVECTOR_PASSWORD_FILE", str(file))
    file.write_text("first\n")
    settings = load_settings()
    monkeypatch.setattr(psycopg, "connect", lambda **facts: given.append(facts["password"]) or Greeting())
    store.connect(settings)
    file.write_text("second\n")
    store.connect(settings)
    file.unlink()
    store.connect(settings)
    assert given == ["first", "second", "first"]


class Greeting:
    """A connection of which only the greeting is looked at."""

    class info:  # noqa: N801
        @staticmethod
        def parameter_status(name):
            return {"TimeZone": "UTC", "DateStyle": "ISO, MDY"}[name]


needs_pgbouncer = pytest.mark.skipif(
    shutil.which("pgbouncer") is None, reason="PgBouncer is not installed: apt-get install pgbouncer"
)


@pytest.fixture
def pooled(database, postgres, tmp_path):
    """Settings that lead through PgBouncer in transaction mode, with two server connections for all."""
    with pgbouncer(tmp_path, postgres, database.pgvector_db) as port:
        yield database.model_copy(update={"pgvector_host": "127.0.0.1", "pgvector_port": port})


@needs_pgbouncer
def test_a_pooler_in_transaction_mode_is_enough_for_job_status_and_search(pooled, database):
    store.prepare(pooled, SPACE)
    tables = [store.TableStore(pooled, SPACE) for _ in range(4)]
    for number, table in enumerate(tables * 5):
        assert len(table.write(some(*range(number * 10, number * 10 + 20))).won) >= 10
        table.look_up([str(id) for id in range(50)])
        table.resume({("t", number): 0})
    for table in tables:
        table.close()
    assert parts.read_rows(pooled).rows == 210
    assert parts.read_rows(pooled).losses == ""
    with store.connect(pooled) as connection:
        assert store.is_pooled(connection)
        assert len(nearest(connection, pooled, some(1)[0].embedded.vector, 5)) == 5
    with store.connect(database) as connection:
        assert not store.is_pooled(connection)


@needs_pgbouncer
def test_what_needs_a_session_says_so_behind_a_pooler(pooled, database):
    store.prepare(database, SPACE)
    for command in (audit, build):
        with pytest.raises(ConfigError, match="a pooler stands between: set PGVECTOR_HOST"):
            command(pooled)
