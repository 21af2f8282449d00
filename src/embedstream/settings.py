"""The settings of every part of embedstream; with `environment` the only reader of the environment.

Each field is set by the environment variable of its name in capitals, or by a file that the
variable `<NAME>_FILE` points to (for secrets). Empty variables count as not set.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from embedstream.decode.spec import Chunks, Decoding
from embedstream.environment import OF_NO_VARIABLE, FileSource, VariableSource, choices_of, chosen, is_service_link
from embedstream.errors import ConfigError
from embedstream.remote_settings import RemoteSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DEFAULT_MAX_TEXT_BYTES = 1_048_576

Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(RemoteSettings, BaseSettings):
    """One frozen object with everything that can be set."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, env_prefix="", hide_input_in_errors=True
    )

    embedding_service_url: str = Field("http://localhost:5000", description="address of the embedding service")
    embedding_service_timeout: float = Field(
        60.0, gt=0, description="seconds to wait for one answer of the embedding service"
    )
    embedding_batch_texts: int = Field(128, ge=1, le=512, description="texts in one request to the embedding service")
    embedding_requests_in_flight: int = Field(
        4, ge=1, le=64, description="requests that one job slot keeps under way at the embedding service"
    )
    embedding_api_key: SecretStr | None = Field(
        None, description="key that the embedding service asks for, and that its clients send (not set: no key)"
    )
    max_text_bytes: int = Field(DEFAULT_MAX_TEXT_BYTES, ge=1, description="longest text accepted, in bytes of UTF-8")
    version_by: Literal["time", "record"] = Field(
        "time",
        description="which version of an id is newer: the one of the later event, or of the later record of the topic "
        "(for ids that live in one partition, as in compacted topics)",
    )

    kafka_bootstrap_servers: str = Field("localhost:9092", description="Kafka brokers, host:port, comma-separated")
    kafka_input_topic: str = Field("text-messages", description="topic that the messages are read from")
    kafka_dead_letter_topic: str = Field("text-messages-dead-letters", description="topic for rejected messages")
    kafka_group_id: str = Field("embedstream", description="consumer group whose offsets the job commits")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how to talk to the brokers"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        "PLAIN", description="SASL mechanism, where the protocol has SASL"
    )
    kafka_sasl_username: str | None = Field(None, description="SASL user")
    kafka_sasl_password: SecretStr | None = Field(None, description="SASL password")
    kafka_sasl_jaas_config: SecretStr | None = Field(
        None, description="the job's login line with user and password, made by `embedstream flink-env`"
    )
    kafka_sasl_oauthbearer_token_endpoint_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s,@]+$",
        description="where OAUTHBEARER fetches its tokens (OpenID Connect, client credentials)",
    )
    kafka_sasl_oauthbearer_client_id: str | None = Field(None, description="client that asks for a token")
    kafka_sasl_oauthbearer_client_secret: SecretStr | None = Field(None, description="secret of that client")
    kafka_sasl_oauthbearer_scope: str | None = Field(None, description="scope that it asks for")
    kafka_sasl_oauthbearer_extensions: str | None = Field(
        None,
        pattern=r'^[A-Za-z]+=[^,"\\$]+(,[A-Za-z]+=[^,"\\$]+)*$',
        description="SASL extensions of OAUTHBEARER, name=value, comma-separated",
    )
    kafka_ssl_ca_location: Path | None = Field(None, description="PEM file of the authorities that sign the brokers")
    kafka_ssl_certificate_location: Path | None = Field(
        None, description="PEM file of the client's certificate and those that lead to its authority"
    )
    kafka_ssl_key_location: Path | None = Field(None, description="PEM file of the client's private key (PKCS#8)")
    kafka_ssl_key_password: SecretStr | None = Field(None, description="password of that key, where it is encrypted")
    kafka_ssl_endpoint_identification: Literal["https", "none"] = Field(
        "https", description="whether a broker's certificate must name its host"
    )

    pgvector_host: str = Field("localhost", description="PostgreSQL host, or the directory of its socket")
    pgvector_port: Port = Field(5432, description="PostgreSQL port")
    pgvector_db: str = Field("embeddings_db", description="database")
    pgvector_user: str = Field("postgres", description="database user")
    pgvector_password: SecretStr | None = Field(None, description="password of the database user")
    pgvector_password_file: Path | None = Field(
        None, description="file with the password, read anew at each connection (for tokens that expire)"
    )
    pgvector_table: str = Field("text_message_embeddings", description="table, or schema.table, of the embeddings")
    pgvector_dimension: int | None = Field(
        None, ge=1, le=4000, description="dimension that the model must have (not set: the model's own)"
    )
    pgvector_sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        "prefer", description="libpq's sslmode"
    )
    pgvector_sslrootcert: str | None = Field(
        None, description="PEM file of the authorities that sign the server's certificate, or `system`"
    )
    pgvector_sslcert: Path | None = Field(None, description="PEM file of the client's certificate")
    pgvector_sslkey: Path | None = Field(None, description="PEM file of the client certificate's key")

    index: Literal["auto", "off"] = Field(
        "auto", description="whether indexes are built once the backlog is gone, or only by hand"
    )
    index_min_rows: int = Field(
        50_000,
        ge=1,
        description="fewest rows with which indexes are built by themselves; below it searches are fast",
    )
    index_type: Literal["vector", "halfvec", "bit"] = Field(
        "vector",
        description="what the vector index holds of each number: all of it, half of it, or its sign "
        "(more than 2000 dimensions are never held as they are)",
    )
    index_rerank: int = Field(
        100,
        ge=25,
        le=1000,
        description="rows of a `bit` index that are compared exactly for each 25 that are looked for",
    )
    index_memory_mb: int = Field(
        512, ge=1, description="most memory for building the index, in MiB; a graph that needs more is built slowly"
    )
    index_workers: int = Field(2, ge=0, le=64, description="parallel workers that help PostgreSQL to build the index")

    flink_home: Path | None = Field(None, description="Flink distribution (not set: the one inside PyFlink)")
    flink_rest_url: str = Field(
        "http://localhost:8081", description="REST address of the Flink JobManager; https and a path may be in it"
    )
    flink_rest_ca_location: Path | None = Field(
        None, description="PEM file of the authorities that sign the certificate at FLINK_REST_URL (not set: the usual)"
    )
    flink_rest_authorization: SecretStr | None = Field(
        None, description="Authorization header that a proxy before Flink asks for, as in `Basic dXNlcjpwYXNz`"
    )
    flink_python: str | None = Field(
        None,
        min_length=1,
        description="Python of Flink's workers, with embedstream in it: a path on their machines (not set: this one's)",
    )
    flink_parallelism: int = Field(2, ge=1, le=1024, description="parallel slots of the job")
    flink_checkpoint_interval_ms: int = Field(
        10_000, ge=100, description="milliseconds between checkpoints (and commits of the group's offsets)"
    )
    flink_job_name: str = Field("embedstream", description="name of the job; one job of a name runs at a time")

    health_max_age_seconds: float = Field(
        60.0,
        gt=0,
        description="oldest unread message, beyond a checkpoint interval and 10 s, with which the pipeline is healthy",
    )
    health_max_lag: int | None = Field(
        None, ge=0, description="most unread messages with which the pipeline is healthy (not set: any number)"
    )
    health_max_waiting_seconds: float = Field(
        60.0, gt=0, description="longest time without a checkpoint, beyond an interval, while the pipeline is healthy"
    )

    embedding_model: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        description="model of the service: an installed model's name, a directory, or org/name on the Hugging Face Hub",
    )
    embedding_model_revision: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._/-]+$",
        description="branch, tag or commit (all 40 digits) of a model on the Hub (not set: its main branch)",
    )
    embedding_model_cache: Path | None = Field(
        None, description="where models of the Hub are kept (not set: the Hub's own cache in the user's home)"
    )
    embedding_model_download: Literal["auto", "off"] = Field(
        "auto", description="whether what a model on the Hub lacks in the cache is downloaded"
    )
    hf_token: SecretStr | None = Field(None, description="token for the Hub's private and gated models")
    hf_endpoint: str | None = Field(None, description="address of a mirror of the Hub (not set: the Hub itself)")
    hf_hub_offline: bool = Field(
        False, description="whether nobody may be asked for models, as with EMBEDDING_MODEL_DOWNLOAD=off"
    )
    embedding_engine: Literal["openvino", "sentence-transformers", "static", "remote"] = Field(
        "openvino",
        description="what the service embeds with: a library (the second is to be installed; a static model is known "
        "by its files, and needs none), or another server",
    )
    embedding_device: Literal["cpu", "cuda"] = Field(
        "cpu", description="what the service computes on (cuda: an NVIDIA GPU, with the engine sentence-transformers)"
    )
    embedding_batch_tokens: int | None = Field(
        None,
        ge=8,
        description="tokens in a batch of the engine sentence-transformers (not set: 768 on a CPU, 32768 on a GPU)",
    )
    embedding_prompt_passage: str | None = Field(
        None, description="what stands before every text that is to be found (not set: as the model's files say)"
    )
    embedding_prompt_query: str | None = Field(
        None, description="what stands before every text that is searched with (not set: as the model's files say)"
    )
    embedding_dimensions: int | None = Field(
        None, ge=1, description="dimensions that vectors are cut to, for Matryoshka models (not set: all)"
    )
    embedding_max_tokens: int | None = Field(
        None, ge=8, description="tokens that are kept of a text (not set: as many as the model's files say)"
    )
    embedding_precision: Literal["auto", "f32", "bf16", "int8"] = Field(
        "auto", description="numbers that the service computes in (auto: bf16 where it is exact enough and faster)"
    )
    embedding_host: str = Field("127.0.0.1", description="address that the service listens on")
    embedding_port: Port = Field(5000, description="port that the service listens on")
    embedding_threads: int | None = Field(
        None, ge=1, description="inference threads of the service (not set: the CPUs that it may use)"
    )
    embedding_queue_texts: int = Field(
        8192, ge=1, description="texts that may wait in the service before it answers 429"
    )
    embedding_max_requests: int | None = Field(
        None,
        ge=1,
        description="requests that may wait for vectors in the service before it answers 429 "
        "(not set: as many as EMBEDDING_QUEUE_TEXTS)",
    )
    embedding_accept_token_ids: bool = Field(
        False, description="whether the service takes token ids at /v1/embeddings, which may be another tokenizer's"
    )
    embedding_max_texts: int = Field(2048, ge=1, description="most texts that the service takes in one request")
    embedding_max_request_bytes: int = Field(
        16_777_216, ge=1024, description="largest request body that the service reads, in bytes"
    )
    embedding_read_seconds: float = Field(
        30.0, gt=0, description="seconds that a client may take to send a request before the service hangs up"
    )
    embedding_drain_seconds: int = Field(
        10, ge=1, description="seconds that a service which was told to stop may take to finish what it accepted"
    )

    console_host: str = Field("127.0.0.1", description="address that the console listens on")
    console_port: Port = Field(8083, description="port that the console listens on")
    console_api_key: SecretStr | None = Field(
        None, description="key of those who may change something in the console (not set, and no other: no key)"
    )
    console_read_key: SecretStr | None = Field(None, description="key of those who may look at the console")
    console_without_key: bool = Field(
        False, description="whether the console listens beyond loopback without a key, as behind a container's port"
    )
    console_hide_texts: bool = Field(False, description="whether console and MCP show no texts, only how long they are")
    mcp_write: bool = Field(
        False, description="whether agents may replay dead letters and repair the table by MCP, not only look"
    )

    embedstream_file: Path | None = Field(
        None,
        description="file of pipelines (not set: embedstream.yaml in the working directory, where there is one)",
    )
    embedstream_cache_dir: Path | None = Field(
        None, description="where downloaded jars are kept (not set: the user's cache directory)"
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least severe level logged")

    decoding: Decoding | None = Field(
        None, description="what the pipeline file makes of the topic's records (None: messages under their own names)"
    )

    @model_validator(mode="before")
    @classmethod
    def _as_meant(cls, values: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in values.items() if not is_service_link(name, value)}
        fields = {name: field.annotation for name, field in cls.model_fields.items()}
        return {name: chosen(value, choices_of(fields.get(name))) for name, value in given.items()}

    @field_validator("embedding_service_url", "flink_rest_url", "hf_endpoint")
    @classmethod
    def _without_trailing_slash(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if not url.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise ValueError("must have no user and no password in it: it is logged")
        return url.rstrip("/")

    @field_validator("embedding_api_key", "console_api_key", "console_read_key", "hf_token")
    @classmethod
    def _fits_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not re.fullmatch(r"[!-~]+", key.get_secret_value()):
            raise ValueError("must be printable ASCII without white space, and not empty")
        return key

    @model_validator(mode="after")
    def _check_topics(self) -> Self:
        if self.kafka_dead_letter_topic == self.kafka_input_topic:
            raise ValueError(
                "KAFKA_DEAD_LETTER_TOPIC must not be KAFKA_INPUT_TOPIC: a dead letter would come round again"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, VariableSource(settings_cls), FileSource(settings_cls)

    @property
    def chunks(self) -> Chunks | None:
        """How texts are divided into the rows of the table; None where a text is one."""
        return self.decoding.chunks if self.decoding else None

    @property
    def is_chunked(self) -> bool:
        return self.chunks is not None

    def to_env(self) -> dict[str, str]:
        """The environment variables that make another process read these settings, secrets included."""
        return {n.upper(): _plain(value) for n, value in self if value is not None and n not in OF_NO_VARIABLE}


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment of this process with these settings in it, and no others, for a process to start."""
    own = settings.to_env()
    unset = {name.upper() for name in type(settings).model_fields} - own.keys()
    inherited = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in unset}
    return {**inherited, **own}


def variable(name: str) -> str | None:
    """An environment variable; None where it is not set, or empty."""
    return os.environ.get(name) or None


def variables_of(names: Iterable[str]) -> list[str]:
    """The environment variables that set any of these settings."""
    variables = (name.upper() for name in names)
    return [each for name in variables for each in (name, f"{name}_FILE") if variable(each)]


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process.

    Raises ConfigError that names each variable with a value that cannot be used.
    """
    try:
        return Settings(**overrides)
    except ValidationError as exc:
        raise ConfigError("; ".join(_explain(error) for error in exc.errors())) from None
    except OSError as exc:
        raise ConfigError(f"cannot read the file of a setting: {exc}") from exc


def _explain(error: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in error["loc"]).upper()
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" if name else message
