"""The embedded stack of one directory: which parts, where, with which settings."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from embedstream.errors import ConfigError, EmbedstreamError
from embedstream.index import tend
from embedstream.jars import cache_directory
from embedstream.local import connect, detached
from embedstream.local.connect import Connect
from embedstream.local.console import Console
from embedstream.local.files import locked
from embedstream.local.flink import FlinkCluster, JobManager, TaskManager
from embedstream.local.job import Job, name_of_job
from embedstream.local.kafka import Kafka
from embedstream.local.names import PARTS
from embedstream.local.ports import LOOPBACK, choose_port
from embedstream.local.postgres import SLOT_MB, SUPERUSER, Postgres, slots
from embedstream.local.process import POLL_SECONDS, ProcessId, end_group
from embedstream.local.registry import VARIABLE, Registry, registry_url
from embedstream.local.runner import GiveUp
from embedstream.local.service import Service
from embedstream.local.state import StackState, load_state, now, save_state, state_file
from embedstream.local.supervisor import Supervisor
from embedstream.pipelines.choice import DECIDED, all_settings, file_of
from embedstream.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from embedstream.local.part import Part
    from embedstream.local.state import PartRecord

PORTS = (
    "kafka", "kafka-controller", "postgres", "service", "flink", "flink-rpc", "registry", "registry-management",
    "connect", "console",
)  # fmt: skip

CONTENTS = ("postgres", "kafka", "flink", "registry", "connect", "logs", "state.json", "lock")
"""What a stack puts into its directory."""

Say = Callable[[str, str], None]
"""Tells the user what happened to which part."""

TENDED = ("postgres", "kafka", "job")
"""The parts with which a stack has an index to look after."""

LEFTOVER_SECONDS = 10.0
STOP_SIGNALS = {Postgres.name: Postgres.stop_signal}

LARGEST_LOG = 10 * 2**20

OF_A_LOGIN = tuple(
    name
    for name, field in Settings.model_fields.items()
    if name.startswith(("kafka_sasl_", "kafka_ssl_")) and field.default is None
)
"""The settings of a login to Kafka, for which the stack's own has no use."""

ALWAYS_EXPORTED = (
    "kafka_bootstrap_servers",
    "kafka_security_protocol",
    "pgvector_host",
    "pgvector_port",
    "pgvector_db",
    "pgvector_user",
    "pgvector_sslmode",
    "embedding_service_url",
    "flink_rest_url",
)


class Stack:
    """A directory that holds the data, logs and state of one stack; one supervisor at a time may have it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.logs = self.directory / "logs"
        self.log = self.logs / "stack.log"

    def state(self) -> StackState:
        return load_state(self.directory)

    def up(
        self, parts: Sequence[str], fixed_ports: Mapping[str, int], say: Say, connectors: Sequence[Path] = ()
    ) -> int:
        """Run these parts until a signal stops them; the exit code. The files of connectors are kept for later starts.

        Raises ConfigError where they cannot start.
        """
        self._claim_directory()
        try:
            with self._locked():
                self._end_leftovers(say)
                self._look_at_connectors(parts, connectors, say)
                self._supervise(parts, fixed_ports, say)
        except BlockingIOError:
            raise ConfigError(self._already_running()) from None
        except GiveUp as exc:
            say("stack", f"stopped: {exc}")
            return 1
        return 0

    def up_in_background(
        self,
        parts: Sequence[str],
        fixed_ports: Mapping[str, int],
        echo: Callable[[str], None],
        connectors: Sequence[Path] = (),
    ) -> int:
        """As `up`, but return when everything is ready; at once if it is already."""
        self._claim_directory()
        if self.state().is_running:
            echo(self._already_running())
            detached.wait_until_ready(self)
            code = 0
        else:
            options = [f"--{name}-port={port}" for name, port in fixed_ports.items()]
            options += [f"--connector={path}" for path in connectors]
            code = detached.start(self, [f"--dir={self.directory}", f"--only={','.join(parts)}", *options], echo)
        if code == 0:
            echo(f'eval "$(embedstream local env --dir {self.directory})" leads other commands to it')
        return code

    def down(self) -> tuple[str, ...] | None:
        """Stop the stack, from another process.

        None if it was running; else the names of the parts that a killed supervisor had left.
        """
        stopped = False
        while True:
            supervisor = self.state().supervisor
            if supervisor is not None and supervisor.is_alive():
                detached.stop(supervisor)
                stopped = True
            try:
                left = self._end_abandoned()
                return None if stopped else left
            except BlockingIOError:  # a supervisor is about to write down who it is, or somebody else ends this one
                time.sleep(POLL_SECONDS)

    def delete(self) -> None:
        """Remove what the stack put into its directory, and the directory if nothing else is in it."""
        if not state_file(self.directory).exists():
            return
        for name in CONTENTS:
            path = self.directory / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        if not any(self.directory.iterdir()):
            self.directory.rmdir()

    def _supervise(self, names: Sequence[str], fixed_ports: Mapping[str, int], say: Say) -> None:
        ports = choose_ports(fixed_ports, self.state().ports)
        registry = {VARIABLE: registry_url(ports["registry"])} if Registry.name in names else {}
        os.environ.update(registry)  # the parts get it, and files of settings may name it
        settings = stack_settings(ports)
        if path := file_of(settings):
            settings = settings.model_copy(update={"embedstream_file": path.absolute()})
        pipelines: Mapping[str | None, Settings] = all_settings(settings) if "job" in names else {None: settings}
        cluster = self._cluster(ports, settings, sum(each.flink_parallelism for each in pipelines.values()))
        state = StackState(
            supervisor=ProcessId.of(os.getpid()),
            since=now(),
            ports=ports,
            exports={**exports(settings), **registry, **(cluster.locations if "jobmanager" in names else {})},
        )

        def changed(records: tuple[PartRecord, ...]) -> None:
            try:
                save_state(self.directory, replace(state, parts=records))
            except OSError as exc:  # no reason to stop what runs, let alone not to stop what should
                say("stack", f"its state cannot be written: {exc}")

        supervisor = Supervisor(self._parts(ports, settings, cluster, names, pipelines), say, changed)
        save_state(self.directory, state)
        tending = ExitStack()

        def ready() -> None:
            say("stack", "ready")
            if set(TENDED) <= set(names):
                for each in pipelines.values():
                    tending.enter_context(tend.in_background(each, partial(say, "index"), threading.Event()))

        try:
            supervisor.run(ready, tending.close)
        finally:
            save_state(self.directory, replace(state, supervisor=None, since=None))

    def _cluster(self, ports: Mapping[str, int], settings: Settings, slots: int) -> FlinkCluster:
        return FlinkCluster(
            directory=self.directory / "flink",
            rest_port=ports["flink"],
            rpc_port=ports["flink-rpc"],
            slots=max(2, slots),
            cache=cache_directory(settings),
            logs=self.logs / "flink",
            base_env=environment(settings),
            max_text_bytes=settings.max_text_bytes,
        )

    def _parts(
        self,
        ports: Mapping[str, int],
        settings: Settings,
        cluster: FlinkCluster,
        names: Sequence[str],
        pipelines: Mapping[str | None, Settings],
    ) -> list[Part]:
        parts: list[Part] = [
            Registry(
                self.directory / "registry",
                ports["registry"],
                ports["registry-management"],
                cluster.cache,
                self._log("registry"),
            ),
            Postgres(
                self.directory / "postgres",
                ports["postgres"],
                settings.pgvector_db,
                self._log("postgres"),
                is_source=Connect.name in names,
            ),
            Kafka(
                self.directory / "kafka", ports["kafka"], ports["kafka-controller"], cluster.cache, self._log("kafka")
            ),
            Connect(self.directory / "connect", settings, ports["connect"], cluster.cache, self._log("connect")),
            Service(settings, environment(settings), self._log("service")),
            JobManager(cluster, self._log("jobmanager")),
            TaskManager(cluster, self._log("taskmanager")),
        ]
        jobs = [Job(cluster, each, self._log(name_of_job(name)), name) for name, each in pipelines.items()]
        console = Console(ports["console"], environment(settings), self._log("console"))
        return [
            *(part for part in parts if part.name in names),
            *(jobs if "job" in names else []),
            *([console] if console.name in names else []),
        ]

    def _log(self, name: str) -> Path:
        path = self.logs / f"{name}.log"
        if path.exists() and path.stat().st_size > LARGEST_LOG:
            path.replace(path.with_suffix(".log.1"))
        return path

    def _claim_directory(self) -> None:
        check_path(self.directory)
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigError(f"{self.directory} cannot be the directory of a stack: {exc}") from exc

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with locked(self.directory / "lock", wait=False):
            yield

    def _already_running(self) -> str:
        supervisor = self.state().supervisor
        return f"already running (pid {supervisor.pid if supervisor else 'unknown'})"

    def _end_leftovers(self, say: Say) -> None:
        if left := end_leftovers(self.state()):
            say("stack", f"ended what a killed one had left: {', '.join(left)}")

    def _look_at_connectors(self, parts: Sequence[str], connectors: Sequence[Path], say: Say) -> None:
        if Connect.name in parts:
            connect.keep(connectors, self.directory / "connect")
        elif Postgres.name in parts and (names := slots(self.directory / "postgres")):
            unread = f"keeps up to {SLOT_MB} MB of changes for {', '.join(names)}, which nobody reads"
            say("postgres", f"{unread}: start the stack --with connect, or drop the replication slot")

    def _end_abandoned(self) -> tuple[str, ...]:
        if not state_file(self.directory).exists():
            return ()
        with self._locked():
            state = self.state()
            left = end_leftovers(state)
            save_state(self.directory, replace(state, supervisor=None, since=None, parts=()))
        return left


def ensure_up(directory: Path, connectors: Sequence[Path] = ()) -> Settings:
    """Start the whole stack of this directory in the background unless it runs, and return what leads to it.

    With connectors, Kafka Connect is a part of it.

    Raises EmbedstreamError if it does not become ready.
    """
    stack = Stack(directory)
    wanted = (*PARTS, *([Connect.name] if connectors else []))
    if stack.up_in_background(wanted, {}, print, connectors):
        raise EmbedstreamError(f"the stack did not start; see {stack.log}")
    state = stack.state()
    if missing := set(wanted) - {part.name.partition("-")[0] for part in state.parts}:
        raise ConfigError(f"the stack in {stack.directory} runs without {', '.join(sorted(missing))}: stop it first")
    return stack_settings(state.ports, state.exports)


def end_leftovers(state: StackState) -> tuple[str, ...]:
    """End what a killed supervisor left running, in the order of a stop; the names of these parts."""
    left = [part for part in reversed(state.parts) if part.process and part.process.group_is_left()]
    for part in left:
        if part.process is not None:
            end_group(part.process.pid, STOP_SIGNALS.get(part.name, signal.SIGTERM), LEFTOVER_SECONDS)
    return tuple(part.name for part in left)


def choose_ports(wanted: Mapping[str, int], last: Mapping[str, int]) -> dict[str, int]:
    chosen: dict[str, int] = {}
    # Those that were asked for first, so that none of them is taken by chance.
    for name in sorted(PORTS, key=lambda name: name not in wanted):
        taken = frozenset(chosen.values())
        chosen[name] = choose_port(name, wanted=wanted.get(name), last=last.get(name), avoid=taken)
    return chosen


def stack_settings(ports: Mapping[str, int], exported: Mapping[str, str] | None = None) -> Settings:
    """The user's own settings, but for those that lead to a part of the stack, and those that it was started with."""
    overrides: dict[str, Any] = {
        "embedding_service_url": f"http://{LOOPBACK}:{ports['service']}",
        "embedding_host": LOOPBACK,
        "embedding_port": ports["service"],
        "kafka_bootstrap_servers": f"{LOOPBACK}:{ports['kafka']}",
        "kafka_security_protocol": "PLAINTEXT",
        **dict.fromkeys(OF_A_LOGIN),
        "pgvector_host": LOOPBACK,
        "pgvector_port": ports["postgres"],
        "pgvector_user": SUPERUSER,
        "pgvector_password": None,
        "pgvector_sslmode": "disable",
        "console_host": LOOPBACK,
        "console_port": ports["console"],
        "flink_home": None,
        "flink_rest_url": f"http://{LOOPBACK}:{ports['flink']}",
    }
    started_with = {name.lower(): value for name, value in (exported or {}).items()}
    return load_settings(**overrides, **{name: started_with[name] for name in started_with.keys() - overrides.keys()})


def environment(settings: Settings) -> dict[str, str]:
    """What a part gets: our own environment with exactly these settings in it, and none that they leave out.

    Where there is a file of pipelines, what it decides is left to it.
    """
    names = {name.upper() for name in Settings.model_fields}
    names |= {f"{name}_FILE" for name in names}
    set_ = settings.to_env()
    if file_of(settings):
        set_ = {name: value for name, value in set_.items() if name.lower() not in DECIDED}
    return {**{name: value for name, value in os.environ.items() if name not in names}, **set_}


def exports(settings: Settings) -> dict[str, str]:
    """What another command needs to reach the stack and to see it as the job does."""
    shown = {}
    for name, value in settings:
        differs = value != Settings.model_fields[name].default
        if name in ALWAYS_EXPORTED or (differs and value is not None and not isinstance(value, SecretStr)):
            shown[name.upper()] = str(value)
    return shown


def check_path(directory: Path) -> None:
    """Flink's scripts, Java class paths and Kafka's properties each lose another character."""
    if bad := re.search(r"[\s,:#'\"\\$]", str(directory)):
        raise ConfigError(f"the path of the stack's directory must not contain {bad[0]!r}: {directory} (see --dir)")
