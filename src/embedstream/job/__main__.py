"""What `flink run` executes: builds the job from the environment and hands it to the cluster."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pyflink.table import EnvironmentSettings, TableEnvironment
from pyflink.table.udf import udf

from embedstream import kafka
from embedstream.job import tables
from embedstream.job.function import RESULT, IngestFunction
from embedstream.limits import BUNDLE_SHARES, Letter
from embedstream.settings import load_settings

if TYPE_CHECKING:
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
        # Between chained operators Flink would copy a large record for each of the rows that make it count for more.
        "pipeline.object-reuse": "true",
        "table.local-time-zone": "UTC",
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        "python.fn-execution.bundle.size": str(BUNDLE_SHARES),
        "python.fn-execution.arrow.batch.size": str(BUNDLE_SHARES),
        # Records gather by themselves while a call runs; those that find the worker idle need not wait for others.
        "python.fn-execution.bundle.time": "20",
    }


def main() -> None:
    settings = load_settings()
    environment = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for name, value in options(settings).items():
        environment.get_config().set(name, value)
    ingest = udf(IngestFunction(settings), result_type=RESULT, func_type="pandas")
    environment.create_temporary_system_function("ingest", ingest)
    letter = Letter.of(settings.max_text_bytes, kafka.largest_record(settings, settings.kafka_dead_letter_topic))
    for statement in (
        tables.source(settings),
        tables.dead_letters(settings, letter),
        tables.weighed(letter),
        tables.outcomes(settings),
        tables.insert(settings, letter),
    ):
        environment.execute_sql(statement)


if __name__ == "__main__":
    main()
