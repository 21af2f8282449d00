"""A standby of a PostgreSQL server, with asynchronous replication."""

from contextlib import contextmanager

import psycopg

from embedstream.local.part import running
from embedstream.local.ports import LOOPBACK, free_port
from embedstream.local.postgres import SUPERUSER, Postgres, _command
from support.postgres import PostgresServer
from support.stack import wait


class _Standby(Postgres):
    """Begins as a copy of the primary, and follows it."""

    def __init__(self, directory, port, primary):
        super().__init__(directory, port, "postgres", directory / "postgres.log")
        self._primary = primary

    def preparations(self):
        self._fresh.mkdir(mode=0o700, parents=True)
        source = [f"--host={self._primary.host}", f"--port={self._primary.port}", f"--username={self._primary.user}"]
        options = [*source, "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"]
        return [_command("pg_basebackup", self._fresh, *options, doing="copying the primary")]

    def is_ready(self):
        try:
            return _ask(self._port, "SELECT pg_is_in_recovery()")
        except psycopg.Error:
            return False


def _ask(port, query):
    with psycopg.connect(
        host=LOOPBACK, port=port, user=SUPERUSER, dbname="postgres", connect_timeout=2, autocommit=True
    ) as connection:
        (answer,) = connection.execute(query).fetchone()
        return answer


class Standby(PostgresServer):
    def wait_until_level(self, primary):
        """Until it has replayed what the primary has written by now."""
        here = _ask(primary.port, "SELECT pg_current_wal_lsn()::text")
        wait(lambda: _ask(self.port, f"SELECT pg_last_wal_replay_lsn() >= '{here}'"), 30, "the standby")

    def cut_off(self):
        """It hears nothing of the primary from now on."""
        with self.connect() as connection:
            connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
            connection.execute("SELECT pg_reload_conf()")
        wait(lambda: _ask(self.port, "SELECT count(*) = 0 FROM pg_stat_wal_receiver"), 30, "the receiver to end")

    def promote(self):
        assert _ask(self.port, "SELECT pg_promote()")


@contextmanager
def standby_of(primary, directory):
    port = free_port()
    with running(_Standby(directory, port, primary)):
        yield Standby(LOOPBACK, port, SUPERUSER)
