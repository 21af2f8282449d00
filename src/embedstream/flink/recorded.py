"""The settings of a job as the job itself carries them, for everybody to read and to start it again by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import SecretStr

from embedstream.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

# What no job reads: of the service, of who looks after the pipeline, and of the way to the cluster.
_OF_OTHERS = (
    "embedding_drain_seconds", "embedding_engine", "embedding_host", "embedding_max_", "embedding_model",
    "embedding_port", "embedding_precision", "embedding_queue_texts", "embedding_read_seconds", "embedding_threads",
    "embedstream_cache_dir", "flink_home", "flink_rest_", "health_", "index", "log_level",
)  # fmt: skip
_KEPT_BACK = ("kafka_sasl",)


def recorded_names() -> list[str]:
    """The fields of Settings that a job carries: no secret is among them, as all can read them in Flink's web UI."""
    fields = Settings.model_fields
    return [
        name
        for name, field in fields.items()
        if not name.startswith((*_OF_OTHERS, *_KEPT_BACK))
        and "password" not in name
        and field.annotation not in (SecretStr, SecretStr | None)
    ]


def job_parameters(settings: Settings) -> dict[str, str]:
    """What is set of `recorded_names`, by the names of the environment variables."""
    names = {name.upper() for name in recorded_names()}
    return {name: value for name, value in settings.to_env().items() if name in names}


def settings_of_parameters(parameters: Mapping[str, str], present: Settings) -> Settings:
    """The settings that a job was submitted with; what it does not carry, secrets first, is as at present.

    Raises ConfigError where this version cannot read them.
    """
    fields = Settings.model_fields
    names = recorded_names()
    recorded = {name: parameters.get(name.upper(), fields[name].get_default()) for name in names}
    return load_settings(**{name: value for name, value in present if name not in recorded}, **recorded)
