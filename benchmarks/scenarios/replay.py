"""A whole topic again under a new group: every text is known, so that no embedding call is made."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import Producer

from benchmarks.delivery import texts_per_second
from benchmarks.plan import WARM_UP, Contender, Figures, Plan
from benchmarks.stack import Stack, running_service, running_stack
from embedstream import flink, kafka
from embedstream.errors import EmbedstreamError
from embedstream.status.parts import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedstream.settings import Settings

TITLE = "Replay: messages a second of a topic whose texts are all known"
FIGURE = "texts_per_second"
BASELINE = "first time, stub model"

REPLAY = "again"
CHECKPOINT_MS = 500
PATIENCE = 600.0
LOOK = 0.25
NOBODY = b"nobody"
"""The id in deletes that change nothing."""


class Seen(NamedTuple):
    """How many messages were committed, at which moment."""

    moment: float
    messages: int


def contenders(plan: Plan) -> Iterator[Contender]:
    start = plan.closing.enter_context
    stack = start(running_stack(plan.directory, jobs=2))
    stub = start(running_service(plan.directory, "fake:384"))
    changes = {"embedding_service_url": stub, "flink_checkpoint_interval_ms": CHECKPOINT_MS}
    first = start(stack.running_job(stack.named("first", **changes)))
    texts = plan.size(100_000, 6000)

    def send(number: int) -> Figures:
        share = plan.texts(number, texts // (plan.rounds - WARM_UP))
        return {FIGURE: texts_per_second(first, share)}

    def again(number: int) -> Figures:
        name = f"again-{number - WARM_UP}"
        job = first.model_copy(update={"kafka_group_id": name, "flink_job_name": name})
        return _replay(stack, job)

    yield Contender(BASELINE, send)
    yield Contender(REPLAY, again)


def _replay(stack: Stack, job: Settings) -> Figures:
    # Watched from before its start: much may be done when its submission is.
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(lambda: list(_watch(job)))
        with stack.running_job(job):
            seen = watching.result()
            embedded = _embedded(job, seen[-1].messages)
    return {FIGURE: rate(seen), "messages": seen[-1].messages, "embedded_texts": embedded}


def _watch(job: Settings) -> Iterator[Seen]:
    """Each step of the group's committed offsets, up to the present end of the topic.

    Where nothing comes after that end, the last offsets are committed up to ten seconds late: Flink's Kafka source
    commits between two polls, and one poll waits so long for a record. So there is always one more.
    """
    producer = Producer(kafka.client_config(job))
    ends = {position.partition: position.end for position in kafka.positions(job)}
    deadline = time.monotonic() + PATIENCE
    last = -1
    while time.monotonic() < deadline:
        for partition in ends:
            producer.produce(job.kafka_input_topic, None, NOBODY, partition)
        producer.flush()
        positions = kafka.positions(job)
        done = sum(min(position.next, ends[position.partition]) - position.first for position in positions)
        if done != last:
            last = done
            yield Seen(time.monotonic(), done)
        if all(position.next >= ends[position.partition] for position in positions):
            return
        time.sleep(LOOK)
    raise EmbedstreamError(f"group {job.kafka_group_id} is not done after {PATIENCE:.0f} s")


def rate(seen: list[Seen]) -> float:
    """Between the first checkpoint and the last, so that the job's start does not count.

    Where all was done by the first one, it is a lower bound.
    """
    moving = [step for step in seen if step.messages]
    start = moving[0] if len(moving) > 1 else seen[0]
    return (seen[-1].messages - start.messages * (len(moving) > 1)) / (seen[-1].moment - start.moment)


def _embedded(job: Settings, total: int) -> float:
    """The job's own count of texts that it asked the service for, once it has told of every message."""
    cluster = flink.Cluster(job)
    running = cluster.job(job.flink_job_name)
    deadline = time.monotonic() + 60
    while running and time.monotonic() < deadline:
        found = cluster.metrics(running, {*OUTCOMES, "embedded_texts"})
        told = sum(metric.sum for name, metric in found.items() if name != "embedded_texts")
        if told >= total:
            return found["embedded_texts"].sum
        time.sleep(1)
    raise EmbedstreamError(f"job {job.flink_job_name} has not told of its {total} messages within a minute")
