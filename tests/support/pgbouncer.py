"""PgBouncer in transaction mode before a PostgreSQL server, started and stopped by the test."""

import os
import pwd
import shutil
import subprocess
from contextlib import contextmanager

import psycopg

from embedstream.local.ports import free_port
from support.stack import wait

INI = """
[databases]
{database} = host={host} port={server_port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
pool_mode = transaction
default_pool_size = 2
ignore_startup_parameters = extra_float_digits
unix_socket_dir =
"""


@contextmanager
def pgbouncer(directory, postgres, database):
    """Yields its port; it refuses to run as root."""
    port = free_port()
    ini = directory / "pgbouncer.ini"
    facts = {"database": database, "host": postgres.host, "server_port": postgres.port, "user": postgres.user}
    ini.write_text(INI.format(port=port, **facts))
    command = [shutil.which("pgbouncer"), "-q", str(ini)]
    user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid} if os.getuid() == 0 else {}
    if user:
        _let_in(directory)
    with (directory / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, **user)
    try:
        wait(lambda: _answers(port, database, process, directory), 10, "PgBouncer")
        yield port
    finally:
        process.terminate()
        process.wait()


def _let_in(directory):
    """Another user reads the file; the folders of a test are closed to him."""
    (directory / "pgbouncer.ini").chmod(0o644)
    for folder in (directory, *directory.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o011)


def _answers(port, database, process, directory):
    assert process.poll() is None, (directory / "pgbouncer.log").read_text()
    try:
        psycopg.connect(host="127.0.0.1", port=port, dbname=database, user="postgres", connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
