"""What `flink run` executes: builds the job from the environment and hands it to the cluster."""

from __future__ import annotations

import argparse
import json
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING

from pyflink.table import EnvironmentSettings, ExplainDetail, TableEnvironment
from pyflink.table.udf import udf

from embedstream import kafka
from embedstream.decode.opening import headers_of
from embedstream.flink.recorded import decoding_of, job_parameters
from embedstream.flink.submission import DECODING, DRY_RUN
from embedstream.job import tables
from embedstream.job.function import RESULT, IngestFunction
from embedstream.job.tables import Origin
from embedstream.limits import BUNDLE_SHARES, Letter
from embedstream.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from embedstream.settings import Settings


def options(settings: Settings, carried: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Flink's configuration of the job, with what it carries beside its settings.

    A call may wait for an outage of any length, and meanwhile no checkpoint can complete; none of those that
    expire may fail the job.
    """
    return {
        "pipeline.name": settings.flink_job_name,
        # A map of Flink's is YAML, and JSON is YAML: no name or value has to be quoted otherwise.
        "pipeline.global-job-parameters": json.dumps({**job_parameters(settings), **carried}),
        "parallelism.default": str(settings.flink_parallelism),
        "execution.checkpointing.interval": f"{settings.flink_checkpoint_interval_ms} ms",
        "execution.checkpointing.tolerable-failed-checkpoints": str(2**31 - 1),
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "1 s",
        "restart-strategy.exponential-delay.max-backoff": "30 s",
        # Between chained operators Flink would copy a large record for each of the rows that make it count for more.
        "pipeline.object-reuse": "true",
        "table.local-time-zone": "UTC",
        "python.executable": settings.flink_python or sys.executable,
        "python.client.executable": sys.executable,
        "python.fn-execution.bundle.size": str(BUNDLE_SHARES),
        "python.fn-execution.arrow.batch.size": str(BUNDLE_SHARES),
        # Records gather by themselves while a call runs; those that find the worker idle need not wait for others.
        "python.fn-execution.bundle.time": "20",
    }


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """What the submitter tells the job beside the settings: see `starts.as_arguments`."""
    parser = argparse.ArgumentParser(prog="embedstream.job")
    parser.add_argument(DRY_RUN, action="store_true", help="only plan the job, which tells what Flink has against it")
    parser.add_argument("--starts", default="", help="PARTITION:OFFSET,...: the first offset to read of each partition")
    parser.add_argument("--topic-id", help="what dead letters carry")
    parser.add_argument("--origin", type=json.loads, default={}, help="what the job carries beside its settings")
    parser.add_argument(DECODING, type=decoding_of, help="what the pipeline file makes of the topic's records, as JSON")
    return parser.parse_args(arguments)


def _origin(arguments: argparse.Namespace) -> Origin:
    pairs = (start.split(":") for start in arguments.starts.split(",") if start)
    return Origin({int(partition): int(offset) for partition, offset in pairs}, arguments.topic_id)


def main(arguments: argparse.Namespace) -> None:
    """Submit the job, or only plan it."""
    settings, origin = load_settings(decoding=arguments.decoding), _origin(arguments)
    environment = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for name, value in options(settings, arguments.origin).items():
        environment.get_config().set(name, value)
    headers = headers_of(settings)
    ingest = udf(IngestFunction(settings, headers), result_type=RESULT, func_type="pandas")
    environment.create_temporary_system_function("ingest", ingest)
    letter = Letter.of(settings.max_text_bytes, kafka.largest_record(settings, settings.kafka_dead_letter_topic))
    for statement in (
        tables.source(settings, origin),
        tables.dead_letters(settings, letter),
        tables.weighed(letter),
        tables.outcomes(settings, headers),
    ):
        environment.execute_sql(statement)
    insert = tables.insert(settings, letter, origin)
    if arguments.dry_run:
        environment.explain_sql(insert, ExplainDetail.JSON_EXECUTION_PLAN)
    else:
        environment.execute_sql(insert)


if __name__ == "__main__":
    main(parse(sys.argv[1:]))
