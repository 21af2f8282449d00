"""The Flink cluster and the job on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstream.doctor.check import Check, Verdict, fail, ok, skipped, warn
from embedstream.limits import MIB, slot_heap_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedstream.doctor.world import World

_FLINK_S_OWN_BYTES = 64 * MIB


def _reachable(world: World) -> Verdict:
    return ok(f"{world.settings.flink_rest_url} has {world.overview.get('taskmanagers', 0)} TaskManagers")


def _version(world: World) -> Verdict:
    version = str(world.overview.get("flink-version"))
    if not version.startswith("2."):
        return fail(f"the JobManager is Flink {version}", "the job needs Flink 2: set FLINK_REST_URL to such a cluster")
    return ok(f"Flink {version}")


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
    total, free = int(world.overview["slots-total"]), int(world.overview["slots-available"])
    wanted = world.settings.flink_parallelism
    if total < wanted:
        return fail(
            f"the cluster has {total} slots, but FLINK_PARALLELISM is {wanted}", "lower it, or start TaskManagers"
        )
    if not world.jobs and free < wanted:
        return warn(
            f"of {total} slots {free} are free, but FLINK_PARALLELISM is {wanted}",
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
    if min(slots.values()) >= needed:
        return ok(fact)
    return fail(fact, "raise taskmanager.memory.task.heap.size (or process.size), or lower MAX_TEXT_BYTES")


def _slot_heap(task_manager: Mapping[str, Any]) -> int:
    memory = task_manager["memoryConfiguration"]
    return int((memory["frameworkHeap"] + memory["taskHeap"] - _FLINK_S_OWN_BYTES) / task_manager["slotsNumber"])


CHECKS = (
    Check("flink.reachable", _reachable),
    Check("flink.version", _version, ("flink.reachable",)),
    Check("flink.slots", _slots, ("flink.reachable",)),
    Check("flink.memory", _memory, ("flink.reachable",)),
    Check("flink.job", _job, ("flink.reachable",)),
)
