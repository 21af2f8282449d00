"""What `flink run` executes: builds the job from the environment and hands it to the cluster."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from pyflink.table import EnvironmentSettings, TableEnvironment
from pyflink.table.udf import udf

from embedstream.job import tables
from embedstream.job.function import RESULT, IngestFunction
from embedstream.job.tables import Origin
from embedstream.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedstream.settings import Settings


def options(settings: Settings) -> dict[str, str]:
    """Flink's configuration of the job.

    A call may wait for an outage of any length, and meanwhile no checkpoint can complete; none of those that
    expire may fail the job.
    """
    return {
        "pipeline.name": settings.flink_job_name,
        "parallelism.default": str(settings.flink_parallelism),
        "execution.checkpointing.interval": f"{settings.flink_checkpoint_interval_ms} ms",
        "execution.checkpointing.tolerable-failed-checkpoints": str(2**31 - 1),
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "1 s",
        "restart-strategy.exponential-delay.max-backoff": "30 s",
        "table.local-time-zone": "UTC",
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        "python.fn-execution.bundle.size": "512",
        "python.fn-execution.arrow.batch.size": "512",
        # Records gather by themselves while a call runs; those that find the worker idle need not wait for others.
        "python.fn-execution.bundle.time": "20",
    }


def parse(arguments: Sequence[str]) -> Origin:
    """Where to begin: `--starts=PARTITION:OFFSET,...`, and `--topic-id`, which dead letters carry."""
    parser = argparse.ArgumentParser(prog="embedstream.job")
    parser.add_argument("--starts", default="")
    parser.add_argument("--topic-id")
    found = parser.parse_args(arguments)
    pairs = (start.split(":") for start in found.starts.split(",") if start)
    return Origin({int(partition): int(offset) for partition, offset in pairs}, found.topic_id)


def main() -> None:
    settings, origin = load_settings(), parse(sys.argv[1:])
    environment = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for name, value in options(settings).items():
        environment.get_config().set(name, value)
    ingest = udf(IngestFunction(settings), result_type=RESULT, func_type="pandas")
    environment.create_temporary_system_function("ingest", ingest)
    for statement in (
        tables.source(settings, origin),
        tables.dead_letters(settings),
        tables.INGEST,
        tables.insert(settings, origin),
    ):
        environment.execute_sql(statement)


if __name__ == "__main__":
    main()
