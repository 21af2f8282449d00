"""The settings of the pipeline that a command is about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embedstream.decode.spec import Decoding, Formats, ProtobufFile, RegistryAccess
from embedstream.errors import ConfigError
from embedstream.settings import load_settings, variables_of

if TYPE_CHECKING:
    from embedstream.decode.spec import Format
    from embedstream.pipelines.file import Loaded
    from embedstream.pipelines.model import Pipeline
    from embedstream.settings import Settings

DEFAULT_NAME = "embedstream.yaml"
DECIDED = (
    "kafka_input_topic", "kafka_dead_letter_topic", "kafka_group_id", "pgvector_table", "flink_job_name",
    "flink_parallelism", "version_by",
)  # fmt: skip
"""The settings that a pipeline file decides."""
MOST_MAPPING_BYTES = 64 * 1024
"""What fits on the command line of the job's program."""


def pipeline_settings(name: str | None = None) -> Settings:
    """The settings of this process for one pipeline of the file, or for the one that the variables describe.

    Raises ConfigError where it is not clear which one is meant, BadFile for a file that does not hold.
    """
    base = load_settings()
    path = file_of(base)
    if path is None:
        if name not in (None, base.flink_job_name):
            raise ConfigError(f"--pipeline {name}: there is no {DEFAULT_NAME} here: set EMBEDSTREAM_FILE to the file")
        return base
    loaded = load_file(path)
    chosen = _chosen(loaded, name)
    return settings_of(chosen, loaded.pipelines[chosen], base, path.parent)


def all_settings(base: Settings) -> dict[str | None, Settings]:
    """Of each pipeline of the file, by name; without a file the base alone, under None. Raises as pipeline_settings."""
    path = file_of(base)
    if path is None:
        return {None: base}
    pipelines = load_file(path).pipelines
    return {name: settings_of(name, pipeline, base, path.parent) for name, pipeline in pipelines.items()}


def file_of(settings: Settings) -> Path | None:
    """The pipeline file, where there is one."""
    if settings.embedstream_file:
        return settings.embedstream_file
    path = Path(DEFAULT_NAME)
    return path if path.exists() else None


def load_file(path: Path) -> Loaded:
    """Raises ConfigError, also where the environment says what the file decides."""
    from embedstream.pipelines.file import load  # noqa: PLC0415 - without a file nothing of it is needed
    from embedstream.pipelines.wiring import TOOLS  # noqa: PLC0415

    if both := variables_of(DECIDED):
        what = "these variables are" if len(both) > 1 else "this variable is"
        raise ConfigError(f"{path} decides what {what} for, so unset {', '.join(both)}, or take the file away")
    return load(path, TOOLS)


def _chosen(loaded: Loaded, name: str | None) -> str:
    names = list(loaded.pipelines)
    if name is None and len(names) == 1:
        return names[0]
    if name is None:
        raise ConfigError(f"{loaded.path} has several pipelines: say --pipeline, with one of {', '.join(names)}")
    if name not in names:
        raise ConfigError(f"--pipeline {name}: {loaded.path} has no such pipeline, but {', '.join(names)}")
    return name


def settings_of(name: str, pipeline: Pipeline, base: Settings, directory: Path = Path()) -> Settings:
    """The base with what the pipeline decides; its files are found from the directory of the pipeline file.

    Where records are taken as without a file, the settings carry no decoding.
    """
    if len(pipeline.topics) > 1:
        raise ConfigError(
            f"pipeline {name}: several topics of one pipeline are not supported yet: make a pipeline for each"
        )
    decoding = _found(pipeline.decoding, directory.absolute())
    if len(decoding.to_json()) > MOST_MAPPING_BYTES:
        raise ConfigError(f"pipeline {name}: what it says of its records has more than {MOST_MAPPING_BYTES} bytes")
    as_usual = decoding.model_copy(update={"version": None}).is_default and decoding.version in (None, "time", "record")
    update = {
        "kafka_input_topic": pipeline.topics[0],
        "kafka_dead_letter_topic": pipeline.dead_letter_topic(name),
        "kafka_group_id": pipeline.group_id(name),
        "pgvector_table": pipeline.table,
        "flink_job_name": pipeline.job_name(name),
        "flink_parallelism": pipeline.parallelism or base.flink_parallelism,
        "version_by": decoding.version_by,
        "decoding": None if as_usual else decoding,
    }
    return base.model_copy(update=update)


def _found(decoding: Decoding, directory: Path) -> Decoding:
    registry, formats = decoding.registry, decoding.formats
    if isinstance(registry, RegistryAccess):
        files = {name: getattr(registry, name) for name in ("password_file", "token_file", "ca_file")}
        registry = registry.model_copy(update={n: str(directory / path) for n, path in files.items() if path})
    read = Formats(key=_proto(formats.key, directory), value=_proto(formats.value, directory))
    return decoding.model_copy(update={"registry": registry, "format": read})


def _proto(written: Format, directory: Path) -> Format:
    if isinstance(written, ProtobufFile):
        return written.model_copy(update={"protobuf": str(directory / written.protobuf)})
    return written
