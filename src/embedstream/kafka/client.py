"""What every librdkafka client of ours has in common, and how a broker is asked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, Producer
from pydantic import SecretStr
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_fixed

from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedstream.settings import Settings

TIMEOUT = 10.0
# What is met while a leader or a group's coordinator is elected or loads, and while a broker of several goes away or
# comes back; librdkafka does not always wait.
PASSING = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.NOT_CONTROLLER,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._TRANSPORT,  # noqa: SLF001 - these have no public names
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._DESTROY_BROKER,  # noqa: SLF001 - a connection gave way to another
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - its leader is not known yet
    }
)
_NO_ANSWER = frozenset({KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN})  # noqa: SLF001
# Times TIMEOUT: to notice that a broker is gone, to choose another leader, and to tell it.
_OF_AN_ELECTION = 3
# Seconds in which a broker that is there has refused a login.
_A_CONNECTION = 3.0


def client_config(settings: Settings) -> dict[str, Any]:
    """The configuration that they share."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
        "logger": None,
        "log_level": 2,
    }
    check_login(settings)
    if settings.kafka_security_protocol.startswith("SASL"):
        config |= _sasl(settings)
    if settings.kafka_security_protocol.endswith("SSL"):
        config |= _tls(settings)
    return {name: value for name, value in config.items() if value is not None}


def check_login(settings: Settings) -> None:
    """Raise ConfigError that names what a login with these settings lacks."""
    needed: tuple[str, ...] = ()
    if settings.kafka_security_protocol.startswith("SASL") and settings.kafka_sasl_mechanism == "OAUTHBEARER":
        needed = tuple(
            f"kafka_sasl_oauthbearer_{what}" for what in ("token_endpoint_url", "client_id", "client_secret")
        )
    elif settings.kafka_security_protocol.startswith("SASL"):
        needed = ("kafka_sasl_username", "kafka_sasl_password")
    has_certificate = settings.kafka_ssl_certificate_location or settings.kafka_ssl_key_location
    if settings.kafka_security_protocol.endswith("SSL") and has_certificate:
        needed += ("kafka_ssl_certificate_location", "kafka_ssl_key_location")
    if missing := [name.upper() for name in needed if getattr(settings, name) is None]:
        raise ConfigError(f"the login to Kafka lacks {', '.join(missing)}: set {'it' if len(missing) == 1 else 'them'}")
    for name in needed:
        value = getattr(settings, name)
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        if text[:1].isspace():
            raise ConfigError(f"{name.upper()} begins with white space, which librdkafka cuts off: choose another")


def _sasl(settings: Settings) -> dict[str, Any]:
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        return {
            "sasl.mechanism": "OAUTHBEARER",
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.token.endpoint.url": settings.kafka_sasl_oauthbearer_token_endpoint_url,
            "sasl.oauthbearer.client.id": settings.kafka_sasl_oauthbearer_client_id,
            "sasl.oauthbearer.client.secret": _secret(settings.kafka_sasl_oauthbearer_client_secret),
            "sasl.oauthbearer.scope": settings.kafka_sasl_oauthbearer_scope,
            "sasl.oauthbearer.extensions": settings.kafka_sasl_oauthbearer_extensions,
        }
    return {
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": _secret(settings.kafka_sasl_password),
    }


def _tls(settings: Settings) -> dict[str, Any]:
    files = {
        "ssl.ca.location": settings.kafka_ssl_ca_location,
        "ssl.certificate.location": settings.kafka_ssl_certificate_location,
        "ssl.key.location": settings.kafka_ssl_key_location,
    }
    return {
        **{name: str(path) for name, path in files.items() if path},
        "ssl.key.password": _secret(settings.kafka_ssl_key_password),
        "ssl.endpoint.identification.algorithm": settings.kafka_ssl_endpoint_identification,
    }


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value else None


def asked(settings: Settings, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - untyped upstream
    """As `patiently`, but raises ConfigError with the reason."""
    try:
        return patiently(call)
    except KafkaException as exc:
        reason = trouble(settings, exc)
        raise ConfigError(
            f"Kafka at {settings.kafka_bootstrap_servers}: {reason}: check KAFKA_BOOTSTRAP_SERVERS and KAFKA_*"
        ) from exc


def patiently(call: Callable[[], Any]) -> Any:  # noqa: ANN401
    """What `call` gives. Passing trouble is waited out, an election for longer than a broker that is not there."""
    patient = Retrying(retry=retry_if_exception(_passing), wait=wait_fixed(0.2), stop=_is_enough, reraise=True)
    return patient(call)


def trouble(settings: Settings, exc: KafkaException) -> str:
    """The reason in words; where the client only knows that no broker answered, what a connection of its own met."""
    error = exc.args[0]
    if error.code() not in _NO_ANSWER:
        return str(error.str())
    met: list[KafkaError] = []
    # Only a producer or a consumer that is polled tells what it meets.
    producer = Producer({**client_config(settings), "error_cb": met.append})
    deadline = time.monotonic() + min(TIMEOUT, _A_CONNECTION)
    while time.monotonic() < deadline and not any(_says_why(each) for each in met):
        producer.poll(0.05)
    reasons = [each.str() for each in met if _says_why(each)]
    return str(reasons[0] if reasons else error.str())


def _says_why(error: KafkaError) -> bool:
    return error.code() not in {KafkaError._ALL_BROKERS_DOWN, *_NO_ANSWER} or "refused" in error.str()  # noqa: SLF001


def _is_enough(state: RetryCallState) -> bool:
    exc = state.outcome.exception() if state.outcome else None
    is_away = isinstance(exc, KafkaException) and exc.args[0].code() == KafkaError._TRANSPORT  # noqa: SLF001
    return (state.seconds_since_start or 0.0) > TIMEOUT * (1 if is_away else _OF_AN_ELECTION)


def _passing(exc: BaseException) -> bool:
    return isinstance(exc, KafkaException) and exc.args[0].code() in PASSING
