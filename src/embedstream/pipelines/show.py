"""A pipeline in a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstream.decode.spec import Decoding, ProtobufFile

if TYPE_CHECKING:
    from embedstream.decode.spec import Format
    from embedstream.pipelines.model import Pipeline
    from embedstream.settings import Settings


def of_pipeline(name: str, pipeline: Pipeline, base: Settings) -> dict[str, Any]:
    return {
        "name": name,
        "topic": list(pipeline.topics),
        "table": pipeline.table,
        "job": pipeline.job_name(name),
        "group": pipeline.group_id(name),
        "dead_letters": pipeline.dead_letter_topic(name),
        "parallelism": pipeline.parallelism or base.flink_parallelism,
        **_of_decoding(pipeline.decoding),
    }


def of_settings(settings: Settings) -> dict[str, Any]:
    """Of the one pipeline that there is without a file; it has the name of its job."""
    return {
        "name": settings.flink_job_name,
        "topic": [settings.kafka_input_topic],
        "table": settings.pgvector_table,
        "job": settings.flink_job_name,
        "group": settings.kafka_group_id,
        "dead_letters": settings.kafka_dead_letter_topic,
        "parallelism": settings.flink_parallelism,
        **_of_decoding(settings.decoding or Decoding()),
    }


def mapping(settings: Settings) -> dict[str, Any]:
    """What the file says of the records, as it is written there; nothing where they are taken as without a file."""
    decoding = settings.decoding or Decoding()
    return decoding.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _of_decoding(decoding: Decoding) -> dict[str, Any]:
    shown = {"format": _written(decoding.formats.value), "envelope": decoding.envelope}
    return {**shown, "mapping_hash": decoding.mapping_hash}


def _written(form: Format) -> str:
    return f"protobuf {form.message}" if isinstance(form, ProtobufFile) else form
