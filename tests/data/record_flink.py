"""Record what a real Flink says where a job fails: `python tests/data/record_flink.py`, beside an embedded stack.

The answers here are those of Flink 2.3.0. `eval "$(embedstream local env)"` leads to the stack; its job runs first, and
gives its slots to those that fail. Writes tests/data/flink/: `run-KIND.txt` is the output of `flink run`,
`exceptions-KIND.json` the answer of `/jobs/<id>/exceptions`, and NAME.json that of the path in RUNNING.
`run-refused.txt` is `submit("broker")` at a cluster without the connector, with FLINK_LIB_DIR leading to one.
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
RUNNING = {
    "overview": "/overview",
    "jobs": "/jobs/overview",
    "environment": "/jobmanager/environment",
    "taskmanagers": "/taskmanagers",
    "job": "/jobs/{job}",
    "config": "/jobs/{job}/config",
    "checkpoints": "/jobs/{job}/checkpoints",
    "metrics": "/jobs/{job}/vertices/{vertex}/subtasks/metrics?get={ids}&agg=sum,max",
}
ENDED = ("FAILED", "FINISHED", "CANCELED")


def write(name, text):
    plain = (
        text.replace(str(HERE), "/home/me")
        .replace(sys.prefix, "/home/me/.venv")
        .replace(str(HERE.parents[1]), "/home/me")
    )
    # Lambdas, ids, ports and names of this machine say nothing.
    plain = re.sub(r"/tmp/[^/\s:'\"]+", "/tmp/some-directory", plain)
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


def record_running_job():
    """The stack's job, which is cancelled afterwards."""
    jobs = REST.get("/jobs/overview").json()["jobs"]
    job = next(job["jid"] for job in jobs if job["state"] == "RUNNING")
    vertex = REST.get(f"/jobs/{job}").json()["vertices"][0]["id"]
    metrics = REST.get(f"/jobs/{job}/vertices/{vertex}/subtasks/metrics").json()
    ids = ",".join(metric["id"] for metric in metrics if metric["id"].endswith((".stored", ".retries", "_p50_ms")))
    for name, path in RUNNING.items():
        write(f"{name}.json", answers(path.format(job=job, vertex=vertex, ids=ids)))
    write("jobs.json", json.dumps({"jobs": [entry for entry in jobs if entry["jid"] == job]}, indent=1))
    REST.patch(f"/jobs/{job}", params={"mode": "cancel"})
    while REST.get(f"/jobs/{job}").json()["state"] not in ENDED:
        time.sleep(1)


def record_refusal():
    """What `Cluster.try_submission` gets for what is no job."""
    request = json.dumps({"jobGraphFileName": "no-job", "jobJarFileNames": [], "jobArtifactFileNames": []})
    answer = REST.post("/jobs", data={"request": request}, files={"file": ("no-job", bytes(10))})
    write("no-job.json", json.dumps(answer.json(), indent=1))


def main():
    (HERE / "flink").mkdir(exist_ok=True)
    record_running_job()
    record_refusal()
    for kind in ("connector", "validation"):
        write(f"run-{kind}.txt", submit(kind).stdout)
    write("run-client.txt", submit("python", client="/no/such/python").stdout)
    write("run-unreachable.txt", submit("python", "-Drest.port=1", "-Drest.retry.max-attempts=1").stdout)
    for kind in ("python", "module", "executable", "broker", "restarting"):
        record_failing_job(kind)


if __name__ == "__main__":
    main()
