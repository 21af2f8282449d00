"""Record what a real Flink says where a job fails: `python tests/data/record_flink.py`, beside an embedded stack.

The answers here are those of Flink 2.3.0. `eval "$(embedstream local env)"` leads to the stack; the two slots must be free, so cancel the stack's job first.
Writes tests/data/flink/: `run-KIND.txt` is the output of `flink run`, `exceptions-KIND.json` the answer of
`/jobs/<id>/exceptions`, `overview.json` and `jobs.json` those of `/overview` and `/jobs/overview`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx

from embedstream.flink import flink_home

HERE = Path(__file__).resolve().parent
REST = httpx.Client(base_url=os.environ.get("FLINK_REST_URL", "http://localhost:8081"), trust_env=False)
ENDED = ("FAILED", "FINISHED", "CANCELED")


def write(name, text):
    plain = text.replace(str(HERE), "/home/me").replace(sys.prefix, "/home/me/.venv")
    # Lambdas, ids, ports and names of this machine say nothing.
    plain = re.sub(r"/tmp/[^\s:'\"]*", "/tmp/some-directory", plain)
    (HERE / "flink" / name).write_text(plain.rstrip("\n") + "\n")


def submit(kind, *options, client=sys.executable):
    command = [str(flink_home() / "bin" / "flink"), "run", "--detached", "--target=remote"]
    address = [f"-Drest.address={REST.base_url.host}", f"-Drest.port={REST.base_url.port}"]
    python = [f"--pyExecutable={sys.executable}", f"--pyClientExecutable={client}"]
    program = ["--python", str(HERE / "failing_job.py"), kind]
    return subprocess.run(
        [*command, *address, *python, *options, *program], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip


def answers(path):
    return json.dumps(REST.get(path).json(), indent=1)


def record_failing_job(kind):
    done = submit(kind)
    job = re.search(r"JobID ([0-9a-f]{32})", done.stdout)[1]
    while not REST.get(f"/jobs/{job}/exceptions").json()["exceptionHistory"]["entries"]:
        time.sleep(1)
    write(f"exceptions-{kind}.json", answers(f"/jobs/{job}/exceptions"))
    if REST.get(f"/jobs/{job}").json()["state"] not in ENDED:
        REST.patch(f"/jobs/{job}", params={"mode": "cancel"})


def main():
    (HERE / "flink").mkdir(exist_ok=True)
    for kind in ("connector", "validation"):
        write(f"run-{kind}.txt", submit(kind).stdout)
    write("run-client.txt", submit("python", client="/no/such/python").stdout)
    write("run-unreachable.txt", submit("python", "-Drest.port=1", "-Drest.retry.max-attempts=1").stdout)
    for kind in ("python", "module", "executable", "broker", "restarting"):
        record_failing_job(kind)


if __name__ == "__main__":
    main()
