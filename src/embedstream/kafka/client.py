"""What every librdkafka client of ours has in common, and how a broker is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstream.settings import Settings

TIMEOUT = 10.0
# What a broker answers while a leader or a group's coordinator is elected or loads; librdkafka does not always wait.
PASSING = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        # And of a topic that was made anew a moment ago.
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
    }
)


def client_config(settings: Settings) -> dict[str, Any]:
    """The configuration that they share."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
        "logger": None,
        "log_level": 2,
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_sasl_password
        config["sasl.mechanism"] = settings.kafka_sasl_mechanism
        config["sasl.username"] = settings.kafka_sasl_username
        config["sasl.password"] = password.get_secret_value() if password else None
    if settings.kafka_ssl_ca_location:
        config["ssl.ca.location"] = str(settings.kafka_ssl_ca_location)
    return {name: value for name, value in config.items() if value is not None}


def asked(settings: Settings, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - untyped upstream
    patient = Retrying(
        retry=retry_if_exception(_passing), wait=wait_fixed(0.2), stop=stop_after_delay(TIMEOUT), reraise=True
    )
    try:
        return patient(call)
    except KafkaException as exc:
        error = exc.args[0]
        raise ConfigError(
            f"Kafka at {settings.kafka_bootstrap_servers}: {error.str()}: check KAFKA_BOOTSTRAP_SERVERS and KAFKA_*"
        ) from exc


def _passing(exc: BaseException) -> bool:
    return isinstance(exc, KafkaException) and exc.args[0].code() in PASSING
