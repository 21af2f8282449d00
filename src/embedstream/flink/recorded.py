"""The settings of a job as the job itself carries them, for everybody to read and to start it again by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import SecretStr, ValidationError

from embedstream.decode.spec import Decoding
from embedstream.errors import ConfigError
from embedstream.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

# What no job reads: of the service, of who looks after the pipeline, and of the way to the cluster.
_OF_OTHERS = (
    "embedding_accept_", "embedding_batch_tokens", "embedding_device", "embedding_dimensions",
    "embedding_drain_seconds", "embedding_engine", "embedding_host", "embedding_max_", "embedding_model",
    "embedding_port", "embedding_precision", "embedding_prompt_", "embedding_queue_texts", "embedding_read_seconds",
    "embedding_threads", "embedstream_cache_dir", "embedstream_file", "flink_home", "flink_rest_", "health_", "hf_",
    "index", "log_level", "remote_",
)  # fmt: skip
_KEPT_BACK = ("kafka_sasl",)
MAPPING_HASH = "MAPPING_HASH"


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
    """What is set of `recorded_names`, by the names of the environment variables; and what tells mappings apart."""
    names = {name.upper() for name in recorded_names()}
    carried = {name: value for name, value in settings.to_env().items() if name in names}
    if settings.decoding:
        carried |= {"DECODING": settings.decoding.to_json(), MAPPING_HASH: settings.decoding.mapping_hash}
    return carried


# What may be called otherwise from where another submitter stands; a table and a cluster have ids of their own.
_BY_PLACE = frozenset(
    {
        "embedding_service_url", "flink_python", "kafka_bootstrap_servers", "kafka_security_protocol", "pgvector_host",
        "pgvector_port", "pgvector_sslcert", "pgvector_sslkey", "pgvector_sslmode", "pgvector_sslrootcert",
        "pgvector_user",
    }
)  # fmt: skip


def differences(carried: Mapping[str, str], settings: Settings) -> list[str]:
    """Where a job works otherwise than these settings say, in words; nothing where it carries none."""
    if not carried:
        return []
    ours = job_parameters(settings)
    compared = [name for name in recorded_names() if name not in _BY_PLACE and "_ssl_" not in name]
    found = []
    for name in (MAPPING_HASH if name == "decoding" else name.upper() for name in compared):
        default = None if name == MAPPING_HASH else Settings.model_fields[name.lower()].get_default()
        usual = "not set" if default is None else str(default)
        there, here = carried.get(name, usual), ours.get(name, usual)
        found += [f"{name} is {there} there, {here} here"] if there != here else []
    return found


def settings_of_parameters(parameters: Mapping[str, str], present: Settings) -> Settings:
    """The settings that a job was submitted with; what it does not carry, secrets first, is as at present.

    Raises ConfigError where this version cannot read them.
    """
    fields = Settings.model_fields
    names = recorded_names()
    recorded = {name: parameters.get(name.upper(), fields[name].get_default()) for name in names}
    recorded["decoding"] = decoding_of(parameters.get("DECODING"))
    return load_settings(**{name: value for name, value in present if name not in recorded}, **recorded)


def decoding_of(text: str | None) -> Decoding | None:
    """Of what a job carries; raises ConfigError."""
    try:
        return Decoding.model_validate_json(text) if text else None
    except ValidationError as exc:
        raise ConfigError("the job's mapping was written by another version, which this one cannot read") from exc
